"""What is wrong with a loss, or with what is saved of training, is found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from xlm_core import families
from xlm_core.protocols import Ratio
from xlm_core.testing import objective
from xlm_core.testing.building import Built, NotApplicable
from xlm_core.testing.declaration import Declaration


def changed(change, before=None):
    """A loss whose output, and before that its batch, are changed."""

    def wrap(loss):
        return lambda batch, *, seed: change(loss(before(batch) if before else batch, seed=seed), batch)

    return wrap


def scaled(factor):
    return changed(lambda out, batch: replace(out, loss=out.loss * factor(batch)))


def idle(model):
    model.idle = torch.nn.Linear(2, 2)
    return model


def test_a_parameter_that_no_gradient_reaches(arlm, fails):
    fails(objective.layouts_train, arlm, "no gradient reaches idle.bias, idle.weight", model=idle)
    objective.layouts_train(replace(arlm, declared=Declaration(unused_parameters={"idle.*": "for later"})))


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda out, batch: replace(out, loss=out.loss * torch.nan), "the loss is nan"),
        (lambda out, batch: replace(out, loss=out.loss.expand(2)), "not one finite number"),
        (lambda out, batch: replace(out, weight=out.weight * 0), "not one number above 0"),
        (lambda out, batch: replace(out, terms={"loss": Ratio(out.loss[None], out.weight[None])}), "is not detached"),
    ],
)
def test_outputs_that_are_none(arlm, fails, change, reason):
    fails(objective.layouts_train, arlm, reason, loss=changed(change))


def test_packed_rows_that_do_not_train(fails):
    built = Built(families.load("arlm"))

    def wide(batch, layout, stage):
        assert "segment_ids" not in batch, "rows with segments are refused"
        return batch

    fails(objective.packed_rows_train, built, "rows with segments are refused", batch=wide)
    with pytest.raises(NotApplicable):
        objective.packed_rows_train(Built(families.load("ilm")))


def test_a_loss_that_rises(arlm, fails):
    rising = changed(lambda out, batch: replace(out, loss=2 * out.loss.detach() - out.loss))
    fails(objective.loss_falls, arlm, "30 steps on one batch take its loss from", loss=rising)


def test_padding_that_leaks_into_the_loss(ilm, fails):
    def seen(batch):
        return {**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}

    leaking = changed(lambda out, batch: out, before=seen)
    fails(objective.loss_ignores_padding, ilm, "seq2seq: .* padding or other rows leak into it", loss=leaking)


def test_padding_that_leaks_into_a_term(arlm, fails):
    def padded(out, batch):
        padding = (~batch["attention_mask"]).sum(-1).float()
        return replace(out, terms={**out.terms, "nll": Ratio(out.terms["nll"].total + padding, out.terms["nll"].count)})

    fails(objective.loss_ignores_padding, arlm, "leak into the term 'nll'", loss=changed(padded))


def test_a_weight_that_is_not_what_the_loss_is_a_mean_of(arlm, fails):
    by_row = changed(lambda out, batch: replace(out, weight=torch.tensor(float(len(batch["draw"])))))
    fails(objective.loss_ignores_padding, arlm, "`weight` is wrong", loss=by_row)
    one = changed(lambda out, batch: replace(out, weight=torch.ones(())))
    fails(objective.loss_ignores_padding, arlm, "not the sum of its rows' weights", healthy=False, loss=one)


def test_a_loss_that_depends_on_the_place_of_rows(arlm, fails):
    first = scaled(lambda batch: 1 + batch["draw"][0])
    fails(objective.loss_ignores_order, arlm, "when the rows change places", loss=first)

    def numbered(out, batch):
        ratio = out.terms["loss"]
        return replace(out, terms={"loss": Ratio(ratio.total * torch.arange(len(ratio.total)), ratio.count)})

    fails(objective.loss_ignores_order, arlm, "the term 'loss' of a row", healthy=False, loss=changed(numbered))


def test_a_loss_with_chance_of_its_own(arlm, fails):
    fails(objective.loss_repeats, arlm, "equal seeds give the losses", loss=scaled(lambda batch: 1 + torch.rand(())))


def test_weights_that_are_not_saved(arlm, fails):
    def hidden(model):
        constant = torch.randn(32)
        model.final_norm.register_forward_hook(lambda module, inputs, output: output + constant)
        return model

    fails(objective.weights_survive, arlm, "a saved network has the loss .* once loaded", model=hidden)


def test_training_that_remembers_what_is_not_saved(arlm, fails):
    def counting(loss):
        calls = []

        def measure(batch, *, seed):
            calls.append(seed)
            out = loss(batch, seed=seed)
            return replace(out, loss=out.loss + len(calls) * loss.model.head.weight.square().sum())

        return measure

    fails(objective.training_resumes, arlm, "resumed training ends with another", loss=counting)
