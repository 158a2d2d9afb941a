"""The decoder: written out by hand, counted, replayed, and what it must never do. Its laws are in test_oracle."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from xlm_family_mdlm.config import PredictorConfig, RemaskConfig
from xlm_family_mdlm.predictor import STREAM, MdlmPredictor
from xlm_family_mdlm.remasking import steps

from xlm_core.config import SamplingConfig
from xlm_core.errors import ConfigError
from xlm_core.noise.schedules import SCHEDULES, schedule
from xlm_core.sampling.random import RowRandom
from xlm_core.sampling.truncation import truncate
from xlm_core.trace import final

P, M, E = 0, 2, 3
GREEDY = SamplingConfig(temperature=0.0)
PROMPTS = [[7, 8, 9, 12], [7], [], [10, 10], [3, 8, 3], [11, 9, 12, 8, 8]]
"""3 is EOS."""
HOLES = [[7, M, 9, M], [M, M, M, M, M, M], [8, 8], [M], [7, 7, M, 7, M, 7]]
SAMPLERS = {
    "first_hitting": {"sampler": "first_hitting"},
    "surest": {"sampler": "first_hitting", "order": "prob_diff"},
    "one step": {"sampler": "ancestral", "steps": 1},
    "ancestral": {"sampler": "ancestral", "steps": 6},
    "greedy end": {"sampler": "ancestral", "steps": 4, "last_step": "greedy"},
    "remask": {"sampler": "remask", "steps": 12, "remask": RemaskConfig(eta=0.4)},
    "confidence": {"sampler": "remask", "steps": 12, "remask": RemaskConfig("rescale", eta=0.9, confidence=True)},
}


@pytest.fixture
def predictor(network, tokenizer):
    def make(model=network, **options):
        return MdlmPredictor(PredictorConfig(**options), model, tokenizer)

    return make


class _Endless(torch.nn.Module):
    """A network that never ends a text."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        bias = torch.zeros(len(network.head.weight), 1, dtype=torch.float64)
        bias[[P, E]] = -1e4
        self.head = SimpleNamespace(weight=torch.cat([network.head.weight.detach(), bias], 1))

    def hidden(self, *args, **kwargs):
        return torch.nn.functional.pad(self.network.hidden(*args, **kwargs), (0, 1), value=1.0)


@pytest.fixture
def endless(network):
    return _Endless(network)


@pytest.fixture(params=SAMPLERS)
def sampler(request):
    return SAMPLERS[request.param]


@pytest.fixture
def seq2seq(batch_of):
    return batch_of("seq2seq", "predict", prompt_ids=PROMPTS, length=6)


@pytest.fixture
def infill(batch_of):
    whole = [[7 if token == M else token for token in row] for row in HOLES]
    return batch_of("infill", "predict", prompt_ids=HOLES, input_ids=whole)


def _written(prediction):
    return [[token for token in row if token != P] for row in prediction.ids.tolist()]


@torch.no_grad()
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("order", ["top_prob", "prob_diff", "entropy"])
def test_the_surest_column_comes_first(build_network, predictor, specials, seq2seq, order, timed):
    """One row at a time, through SUBS, with the confidences written out."""
    network = build_network(time_conditioning=timed)
    prediction = predictor(network, token=GREEDY, order=order).predict(seq2seq, seed=3, trace=True)
    sureness = {
        "top_prob": lambda law: law.max(),
        "prob_diff": lambda law: law.sort().values[-1] - law.sort().values[-2],
        "entropy": lambda law: sum(p * p.log() for p in law if p > 0),
    }[order]
    orders = []
    for n, prompt in enumerate(PROMPTS):
        row, start, events = [*prompt, specials.bos, *[M] * 7], len(prompt) + 1, []
        while True:
            stops = [c for c in range(start, len(row)) if row[c] in (E, P)]
            end = stops[0] + (row[stops[0]] == E) if stops else len(row)
            waiting = [c for c in range(end) if row[c] == M]
            if not waiting:
                break
            laws = network(torch.tensor([row[:end]]), None, torch.tensor([len(waiting) / 7]))[0].exp()
            laws[:, [1, 2, 4, 5, 6]] = 0
            if E in row[start:end]:
                laws[:, [P, E]] = 0
            laws = laws / laws.sum(-1, keepdim=True)
            column = max(waiting, key=lambda c: float(sureness(laws[c])))
            row[column] = int(laws[column].argmax())
            events.append((column - start, row[column]))
        answer = [token for token in row[start:end] if token >= 7]
        assert _written(prediction)[n] == answer
        assert prediction.nfe[n] == len(events)
        kept = [event for event in events if event[0] < len(answer)]
        assert [(event.position, event.token) for event in prediction.traces[n].events] == kept
        orders.append([position for position, _ in kept])
    assert any(order != sorted(order) for order in orders)


@torch.no_grad()
@pytest.mark.parametrize("timed", [False, True])
def test_greedy_answers_are_those_of_the_definition(build_network, predictor, specials, seq2seq, timed):
    """One row at a time, through SUBS: the waiting column with the largest number, its most probable token, and so on."""
    network = build_network(time_conditioning=timed)
    prediction = predictor(network, token=GREEDY).predict(seq2seq, seed=3, trace=True)
    numbers = RowRandom(3, seq2seq["draw"], STREAM).uniform(0, (seq2seq["input_ids"].shape[1],))
    for n, prompt in enumerate(PROMPTS):
        row, start, calls, events = [*prompt, specials.bos, *[M] * 7], len(prompt) + 1, 0, []
        while True:
            stops = [c for c in range(start, len(row)) if row[c] in (E, P)]
            end = stops[0] + (row[stops[0]] == E) if stops else len(row)
            waiting = [c for c in range(end) if row[c] == M]
            if not waiting:
                break
            column = max(waiting, key=lambda c: numbers[n, c])
            law = network(torch.tensor([row[:end]]), None, numbers[n, column][None])[0, column].exp()
            law[[1, 2, 4, 5, 6]] = 0
            if E in row[start:end]:
                law[[P, E]] = 0
            row[column] = int(law.argmax())
            events.append((calls, column - start, row[column], float(law.max() / law.sum()), float(numbers[n, column])))
            calls += 1
        answer = [token for token in row[start:end] if token >= 7]
        assert _written(prediction)[n] == answer
        assert prediction.nfe[n] == calls
        kept = [event for event in events if event[1] < len(answer)]
        found = [(e.step, e.position, e.token, e.confidence, e.time) for e in prediction.traces[n].events]
        assert [e[:3] for e in found] == [e[:3] for e in kept]
        assert [x for e in found for x in e[3:]] == pytest.approx([x for e in kept for x in e[3:]])
    assert len(set(prediction.nfe.tolist())) > 1


def test_traces_replay_to_the_answers(predictor, sampler, seq2seq, infill, batch_of):
    for batch in (seq2seq, infill, batch_of("lm", "predict", prompt_ids=[[7], [], [8, 9]], length=8)):
        prediction = predictor(**sampler).predict(batch, seed=1, trace=True)
        for row, trace in zip(_written(prediction), prediction.traces, strict=True):
            assert final(trace) == row
            steps_taken = [event.step for event in trace.events]
            assert steps_taken == sorted(steps_taken)
            times = [event.time for event in trace.events]
            assert times == sorted(times, reverse=True)
            assert all(0 < t <= 1 for t in times)
            assert all(0 < e.confidence <= 1 for e in trace.events)
            assert all((e.token == M) == (e.operation == "remask") for e in trace.events)
        assert prediction.nfe.max() > max((e.step for t in prediction.traces for e in t.events), default=-1)
        again = predictor(**sampler).predict(batch, seed=1)
        assert torch.equal(again.ids, prediction.ids)
        assert again.traces is None


def test_remasking_is_in_the_trace(predictor, infill):
    traces = predictor(**SAMPLERS["remask"]).predict(infill, seed=1, trace=True).traces
    assert any(event.operation == "remask" for trace in traces for event in trace.events)
    assert not any(trace.events for trace in [traces[2]]), "a row without holes"


def test_visible_tokens_never_change(predictor, sampler, infill):
    prediction = predictor(**sampler).predict(infill, seed=1)
    for row, holes in zip(_written(prediction), HOLES, strict=True):
        assert len(row) == len(holes)
        assert all(token == hole for token, hole in zip(row, holes, strict=True) if hole != M)


def test_only_words_are_written(network, predictor, specials, sampler, seq2seq, infill):
    """However much the network would like to write special tokens."""
    with torch.no_grad():
        network.head.weight[[*specials.never_generated[1:], E]] *= 30
    for batch in (seq2seq, infill):
        prediction = predictor(**sampler).predict(batch, seed=0)
        lengths = (prediction.ids != P).sum(-1)
        assert torch.equal(prediction.ids != P, torch.arange(prediction.ids.shape[1]) < lengths[:, None])
        holes = {token for row in HOLES for token in row if token >= 7}
        assert set(prediction.ids.unique().tolist()) <= {P, *range(7, 13), *holes}


def test_evaluations_are_counted(network, predictor, sampler, seq2seq, monkeypatch):
    rows = []
    hidden = network.hidden
    monkeypatch.setattr(network, "hidden", lambda ids, *args, **kw: rows.append(len(ids)) or hidden(ids, *args, **kw))
    nfe = predictor(**sampler).predict(seq2seq, seed=3).nfe
    assert len(rows) == nfe.max()
    assert rows == [int((nfe > n).sum()) for n in range(len(rows))]
    if sampler["sampler"] == "first_hitting":
        assert nfe.max() <= 7
    else:
        assert nfe.max() <= sampler["steps"]


def test_the_network_is_asked_only_when_something_changes(predictor, infill):
    """A thousand steps cost at most one evaluation for each hole."""
    holes = torch.tensor([sum(token == M for token in row) for row in HOLES])
    nfe = predictor(sampler="ancestral", steps=1000).predict(infill, seed=0).nfe
    assert (nfe <= holes).all()
    assert (nfe >= (holes > 0)).all()
    first = predictor().predict(infill, seed=0).nfe
    assert torch.equal(first, holes)
    assert (predictor(sampler="ancestral", steps=1).predict(infill, seed=0).nfe == (holes > 0)).all()


def test_a_known_end_is_not_visited(law, two_words, batch_of):
    """Nothing is evaluated for the padding behind a visible EOS: short texts cost about their length, not the canvas."""
    truth = law(longest=6)
    truth.probabilities = torch.nn.functional.normalize((truth.canvases[:, 1] == E).double(), p=1, dim=0)  # one word
    batch = batch_of("lm", "predict", words=two_words, input_ids=[[]] * 200, length=6)
    prediction = MdlmPredictor(PredictorConfig(), truth, two_words).predict(batch, seed=0)
    assert (prediction.ids != P).sum(-1).tolist() == [1] * 200
    assert prediction.nfe.double().mean() < 4


def test_a_row_does_not_depend_on_the_rows_beside_it(predictor, batch_of, sampler, seq2seq):
    together = predictor(**sampler).predict(seq2seq, seed=3)
    for n, prompt in enumerate(PROMPTS):
        alone = predictor(**sampler).predict(batch_of("seq2seq", "predict", prompt_ids=[prompt], draws=[n], length=6), seed=3)
        assert _written(alone)[0] == _written(together)[n]
        assert alone.nfe[0] == together.nfe[n]
    order = [5, 2, 0]
    wide = batch_of(
        "seq2seq",
        "predict",
        prompt_ids=[PROMPTS[n] for n in order],
        draws=order,
        length=6,
        prompt_length=9,
        pad_to_longest=False,
    )
    assert _written(predictor(**sampler).predict(wide, seed=3)) == [_written(together)[n] for n in order]


def test_choices_come_from_the_seed_and_the_draw(endless, predictor, batch_of, sampler):
    same = batch_of("lm", "predict", input_ids=[[]] * 4, draws=[5, 5, 6, 6], length=12)
    decoder = predictor(endless, **sampler, token=SamplingConfig(temperature=20.0))
    first, second, third, fourth = _written(decoder.predict(same, seed=0))
    assert first == second != third == fourth
    assert _written(decoder.predict(same, seed=0)) == [first, second, third, fourth]
    assert _written(decoder.predict(same, seed=1))[0] != first


def test_eos_in_a_prompt_ends_nothing(endless, predictor, batch_of):
    prediction = predictor(endless, token=GREEDY).predict(
        batch_of("seq2seq", "predict", prompt_ids=[[3, 3], [7]], length=4), seed=0
    )
    assert (prediction.ids >= 7).sum(-1).tolist() == [5, 5]


def test_a_batch_is_not_edited(predictor, sampler, seq2seq, infill):
    for batch in (seq2seq, infill):
        before = copy.deepcopy(batch)
        predictor(**sampler, max_new_tokens=12).predict(batch, seed=0, trace=True)
        assert batch.keys() == before.keys()
        assert all(torch.equal(batch[name], before[name]) for name in before)


@pytest.mark.parametrize("stride", [None, 1, 3, 100])
def test_texts_go_on_behind_the_canvas(endless, predictor, batch_of, stride):
    batch = batch_of("seq2seq", "predict", prompt_ids=PROMPTS[:4], length=5)
    prediction = predictor(endless, max_new_tokens=17, stride=stride).predict(batch, seed=0, trace=True)
    assert prediction.ids.shape == (4, 17)
    assert (prediction.ids >= 7).all()
    short = predictor(endless).predict(batch, seed=0)
    assert torch.equal(prediction.ids[:, :6], short.ids)
    for row, trace in zip(prediction.ids.tolist(), prediction.traces, strict=True):
        assert final(trace) == row
        assert sorted(event.position for event in trace.events) == list(range(17))
    size = {None: 3, 1: 1, 3: 3, 100: 6}[stride]
    assert prediction.nfe.tolist() == [6 + -(-11 // size) * size] * 4
    alone = batch_of("seq2seq", "predict", prompt_ids=[PROMPTS[1]], draws=[1], length=5)
    assert torch.equal(predictor(endless, max_new_tokens=17, stride=stride).predict(alone, seed=0).ids[0], prediction.ids[1])


@torch.no_grad()
def test_a_further_window_reads_the_prompt_and_the_last_tokens(network, endless, predictor, batch_of, specials):
    batch = batch_of("seq2seq", "predict", prompt_ids=[[7, 8]], length=4)
    row = predictor(endless, max_new_tokens=7, stride=2, token=GREEDY).predict(batch, seed=0).ids[0].tolist()
    canvas = [7, 8, specials.bos, *row[2:5], M, M]
    numbers = RowRandom(0, batch["draw"], STREAM + 1).uniform(0, (8,))[0]
    for column in sorted((6, 7), key=lambda c: -numbers[c]):
        law = network(torch.tensor([canvas]))[0, column].clone()
        law[[*specials.never_generated, E]] = -torch.inf
        canvas[column] = int(law.argmax())
    assert canvas[6:] == row[5:]


def test_rows_that_have_ended_stay_as_they_are(network, predictor, batch_of):
    batch = batch_of("lm", "predict", input_ids=[[]] * 30, length=4)
    canvas = predictor().predict(batch, seed=0)
    ended = (canvas.ids != P).sum(-1) < 5
    assert ended.any()
    longer = predictor(max_new_tokens=12).predict(batch, seed=0)
    for n in ended.nonzero()[:, 0].tolist():
        assert _written(longer)[n] == _written(canvas)[n]
        assert longer.nfe[n] == canvas.nfe[n]
    infill = batch_of("infill", "predict", prompt_ids=HOLES, input_ids=HOLES)
    assert torch.equal(predictor(max_new_tokens=12).predict(infill, seed=0).ids, predictor().predict(infill, seed=0).ids)


def test_a_text_is_continued(network, predictor, batch_of):
    """Its tokens are read and are not part of the answer."""
    batch = batch_of("lm", "predict", prompt_ids=[[7, 8, 9], []], length=6)
    prediction = predictor().predict(batch, seed=0)
    other = batch_of("lm", "predict", prompt_ids=[[7, 8, 12], []], length=6)
    assert prediction.ids.shape[1] <= 7
    assert not torch.equal(predictor().predict(other, seed=0).ids[0], prediction.ids[0])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_remasking_probabilities_are_probabilities_and_keep_the_noise_level(name, count):
    """For random configs. The share of masked columns after each step is the schedule's, whatever is masked again."""
    generator = torch.Generator().manual_seed(count)
    noise = schedule(name)
    for strategy in ("cap", "rescale"):
        for hold in (None, 0.7):
            eta, end, begin = (x.item() for x in torch.rand(3, generator=generator))
            end, begin = (0.1 + 0.3 * end, 0.5 + 0.4 * begin) if hold else (0.4 * end, 1.0)
            plan = steps(RemaskConfig(strategy, eta, begin=begin, end=end, hold=hold), noise, count)
            assert all(((p >= 0) & (p <= 1)).all() for p in (plan.reveal, plan.remask, plan.noise))
            assert plan.reveal[-1].item() == pytest.approx(1)
            assert plan.remask[-1] == 0
            share = 1.0
            for n in range(count):
                assert share == pytest.approx(plan.noise[n].item(), abs=1e-9)
                share = share * (1 - plan.reveal[n].item()) + (1 - share) * plan.remask[n].item()
            assert share == pytest.approx(0, abs=1e-9)
            outside = (plan.time > begin) | (plan.time - 1 / count < end - 1e-9)
            assert (plan.remask[outside] == 0).all()
            if strategy == "cap":
                assert (plan.remask <= eta).all()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 5, None), (1.0, None, 0.3), (0.7, None, 0.9), (1.3, 20, 0.8), (1.0, 40, 1.0), (2.0, 2, None)],
)
def test_truncation_is_that_of_hugging_face(temperature, top_k, top_p):
    logits = torch.randn(1000, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    theirs = TemperatureLogitsWarper(temperature)(None, logits)
    for warper in ([TopKLogitsWarper(top_k)] if top_k else []) + ([TopPLogitsWarper(top_p)] if top_p else []):
        theirs = warper(None, theirs)
    torch.testing.assert_close(truncate(logits / temperature, top_k, top_p), theirs)


def test_rare_tokens_are_drawn_as_often_as_they_should(tokenizer, specials, batch_of, predictor):
    """A Zipf law over six words cannot show it; here one word has probability 2e-6 and is drawn by inverting the exact law."""
    bias = torch.tensor([0.0, 0, 0, 0, 0, -13.0])

    class Zipf(torch.nn.Module):
        head = torch.nn.Linear(6, len(tokenizer), bias=False)

        def hidden(self, ids, valid=None, noise=None, **kwargs):
            return torch.ones(*ids.shape, 6)

    model = Zipf()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.weight[7:] = torch.diag(bias)
    holes = [[M] * 200] * 2000
    batch = batch_of("infill", "predict", prompt_ids=holes, input_ids=holes, length=200)
    ids = predictor(model, sampler="ancestral", steps=1).predict(batch, seed=0).ids
    p = float(bias.exp()[5] / bias.exp().sum())
    expected = p * ids.numel()
    assert abs(int((ids == 12).sum()) - expected) < 4 * expected**0.5 + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "gibbs"},
        {"schedule": "square"},
        {"steps": 0},
        {"max_new_tokens": 0},
        {"stride": 0},
        {"last_step": "skip"},
        {"order": "surest"},
        {"order": "entropy", "sampler": "ancestral"},
        {"remask": RemaskConfig(strategy="conf")},
        {"remask": RemaskConfig(eta=1.5)},
        {"remask": RemaskConfig(begin=0.2, end=0.5)},
        {"remask": RemaskConfig(hold=0.5)},
    ],
    ids=str,
)
def test_impossible_values_are_refused(predictor, changes):
    with pytest.raises(ConfigError):
        predictor(**changes)
