"""What is wrong with a decoder is found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from xlm_core.testing import decoding
from xlm_core.trace import Trace


def changed(change):
    """A predictor whose prediction is changed."""
    return lambda healthy, batch, **options: change(healthy(batch, **options))


def with_ids(change):
    return changed(lambda found: replace(found, ids=change(found.ids)))


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda ids: ids.int(), "ids is torch.int32"),
        (lambda ids: ids[:2], "ids is torch.int64 of shape"),
        (lambda ids: torch.nn.functional.pad(ids, (1, 0)), "tokens stand behind padding"),
        (lambda ids: torch.nn.functional.pad(ids, (1, 0), value=4), r"ids hold \[BOS\]"),
        (lambda ids: torch.where(ids == ids[0, 0], 3, ids), r"ids hold \[EOS\]"),
    ],
)
def test_ids_that_are_no_answers(arlm, fails, change, reason):
    fails(decoding.predictions_are_answers, arlm, reason, predict=with_ids(change))


def test_infilling_that_loses_what_was_visible(infilling, fails):
    def predict(healthy, batch, **options):
        found = healthy(batch, **options)
        return replace(found, ids=found.ids.where(found.ids == 0, 7))

    fails(decoding.predictions_are_answers, infilling, "the visible tokens are not all in ids", predict=predict)


def test_decoding_with_chance_of_its_own(arlm, fails):
    noisy = with_ids(lambda ids: torch.cat([torch.randint(7, 15, (len(ids), 8)), ids], 1))
    fails(decoding.decoding_repeats, arlm, "decoding the same batch twice with one seed gives", predict=noisy)


def test_chance_that_depends_on_the_batch(arlm, fails):
    def predict(healthy, batch, *, seed, **options):
        return healthy(batch, seed=seed + len(batch["draw"]), **options)

    fails(decoding.decoding_ignores_the_batch, arlm, "a row decoded alone and beside others gets", predict=predict)


def test_chance_that_depends_on_the_place(arlm, fails):
    def predict(healthy, batch, **options):
        return healthy({**batch, "draw": torch.arange(len(batch["draw"]))}, **options)

    fails(decoding.decoding_ignores_the_batch, arlm, "rows in another order get", predict=predict)


def test_evaluations_that_are_counted_wrong(ilm, fails):
    more = changed(lambda found: replace(found, nfe=found.nfe + 1))
    fails(decoding.nfe_counts_evaluations, ilm, r"nfe is \[.*\], and the network was evaluated", predict=more)

    def twice(healthy, batch, **options):
        healthy(batch, **options)
        return healthy(batch, **options)

    fails(decoding.nfe_counts_evaluations, ilm, "the network was evaluated", healthy=False, predict=twice)


def test_what_an_evaluation_is():
    """A call of the model, or of its token embedding beside such calls; never both for one."""

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = torch.nn.Embedding(9, 2), torch.nn.Embedding(4, 2)

        def hidden(self, ids):
            return self.tokens(ids) + self.places(ids)

        def forward(self, ids):
            return self.hidden(ids) + self.tokens(ids)

    network, ids = Network(), torch.tensor([1, 2])
    with decoding.evaluations(network, 9) as seen:
        network(ids), network.hidden(ids), network.hidden(ids)
    assert len(seen) == 3
    network(ids)
    assert len(seen) == 3, "the hooks are taken off again"


def test_traces_that_do_not_replay(ilm, fails):
    def traces(change):
        return changed(lambda found: replace(found, traces=found.traces and [change(trace) for trace in found.traces]))

    def shortened(trace):
        return Trace(trace.start, trace.events[:-1])

    def beyond(trace):
        return Trace(trace.start, [event._replace(step=event.step + 99) for event in trace.events])

    def misplaced(trace):
        return Trace(trace.start, [event._replace(position=50) for event in trace.events])

    fails(decoding.traces_replay, ilm, "the trace of row . ends in", predict=traces(shortened))
    fails(decoding.traces_replay, ilm, "a step outside of its", healthy=False, predict=traces(beyond))
    fails(decoding.traces_replay, ilm, "cannot be replayed: insert at 50", healthy=False, predict=traces(misplaced))
    none = changed(lambda found: replace(found, traces=None))
    fails(decoding.traces_replay, ilm, "there is not one trace a row", healthy=False, predict=none)


def test_recording_that_changes_the_answer(ilm, fails):
    def predict(healthy, batch, *, trace=False, seed):
        return healthy(batch, trace=trace, seed=seed + trace)

    fails(decoding.traces_replay, ilm, "decoding with a trace and without", predict=predict)


def test_an_answer_that_begins_one_token_late(arlm, fails, monkeypatch):
    monkeypatch.setattr(decoding, "LESSONS", 60)
    monkeypatch.setattr(decoding, "TRIES", 1)
    monkeypatch.setattr(decoding, "RATE", 1e-2)
    late = with_ids(lambda ids: ids[:, 1:])
    reason = "after 60 steps on one text 0 of 32 rows are decoded as 'b f d'"
    fails(decoding.a_text_learnt_is_decoded, arlm, reason, predict=late)
