"""The decoder against one that is written out: one row at a time, without padding or batch."""

from __future__ import annotations

import copy

import pytest
import torch
from xlm_family_mlm.config import PredictorConfig
from xlm_family_mlm.predictor import MlmPredictor

from xlm_core.config import SamplingConfig
from xlm_core.errors import ConfigError
from xlm_core.trace import final

P, M, E, B = 0, 2, 3, 4
GREEDY = SamplingConfig(temperature=0.0)
PROMPTS = [[7, 8, 9, 12], [7], [], [10, 10], [3, 8, 3], [11, 9, 12, 8, 8], [9], [12, 11, 10]]
"""3 is EOS: in a prompt it ends nothing."""
ORDERS = [
    {"order": order, **limit}
    for order in ("top_prob", "prob_diff", "entropy")
    for limit in ({}, {"steps": 4}, {"threshold": 0.6}, {"threshold": 0.9, "steps": 5})
]


@pytest.fixture
def predictor(network, tokenizer):
    def make(**options):
        return MlmPredictor(PredictorConfig(**options), network, tokenizer)

    return make


@pytest.fixture
def batch(seq2seq):
    return seq2seq([(prompt, []) for prompt in PROMPTS], "predict", length=9)


def _written(prediction):
    return [[token for token in row if token] for row in prediction.ids.tolist()]


def _confidence(law, order):
    ranked = law.sort(descending=True).values
    if order == "entropy":
        return float((law * law.clamp(min=1e-300).log()).sum())
    return float(ranked[0] - (ranked[1] if order == "prob_diff" else 0))


def _spell_out(network, specials, canvas, *, order, steps=None, threshold=None, ends=True):
    """Greedy decoding by definition: the canvas, (step, column, token, probability) of each choice, evaluations."""
    canvas, events, step = list(canvas), [], 0
    while M in canvas:
        masks = [column for column, token in enumerate(canvas) if token == M]
        logits = network(torch.tensor([canvas]))[0]
        logits[:, [*specials.never_generated, *([] if ends else [E])]] = -torch.inf
        laws = {column: logits[column].softmax(-1) for column in masks}
        sure = {column: _confidence(law, order) for column, law in laws.items()}
        count = 1 if steps is None else -(-len(masks) // (steps - step))
        spent = 0.0
        for place, column in enumerate(sorted(masks, key=lambda column: -sure[column])):
            if place >= count and (threshold is None or spent >= threshold):
                break
            spent += (0 if order == "entropy" else 1) - sure[column]
            canvas[column] = int(laws[column].argmax())
            events.append((step, column, canvas[column], float(laws[column].max())))
        slot = canvas[masks[0] :]
        if ends and E in slot:
            first = masks[0] + slot.index(E)
            canvas = [E if token == M and column > first else token for column, token in enumerate(canvas)]
        step += 1
    return canvas, sorted(events), step


@pytest.mark.parametrize("options", ORDERS, ids=str)
@torch.no_grad()
def test_greedy_answers_are_those_of_the_definition(network, predictor, specials, batch, options):
    prediction = predictor(token=GREEDY, **options).predict(batch, seed=0, trace=True)
    for n, prompt in enumerate(PROMPTS):
        canvas, events, steps = _spell_out(network, specials, [*prompt, B, *[M] * 10], **options)
        answer = canvas[len(prompt) + 1 :]
        answer = answer[: answer.index(E)] if E in answer else answer
        assert _written(prediction)[n] == answer
        assert prediction.nfe[n] == steps
        kept = [(step, column - len(prompt) - 1, token, p) for step, column, token, p in events]
        kept = [event for event in kept if event[1] < len(answer)]
        trace = prediction.traces[n]
        assert trace.start == (M,) * len(answer)
        assert [(e.step, e.position, e.token, e.operation) for e in trace.events] == [(*event[:3], "unmask") for event in kept]
        assert [e.confidence for e in trace.events] == pytest.approx([event[3] for event in kept])
        assert list(final(trace)) == answer


@pytest.mark.parametrize("options", ORDERS[1:3], ids=str)
@torch.no_grad()
def test_holes_are_filled_and_nothing_else_changes(network, predictor, specials, infill, options):
    rows = [([7, 3, 9, 10, 8], {0, 2, 4}), ([8, 8], set()), ([9, 12, 7], {0, 1, 2}), ([11] * 7, {1, 2, 3, 5})]
    with torch.no_grad():
        network.head.weight[E] *= 30
    batch = infill(rows, "predict")
    prediction = predictor(token=GREEDY, **options).predict(batch, seed=0, trace=True)
    for n, (text, holes) in enumerate(rows):
        canvas = [M if column in holes else token for column, token in enumerate(text)]
        filled, _, steps = _spell_out(network, specials, canvas, ends=False, **options)
        assert _written(prediction)[n] == filled
        assert prediction.nfe[n] == steps
        assert list(prediction.traces[n].start) == canvas
        assert list(final(prediction.traces[n])) == filled
    assert prediction.nfe[1] == 0


SAMPLED = [
    {},
    {"steps": 3},
    {"order": "entropy", "threshold": 1.5, "order_temperature": 0.4},
    {"order": "top_prob", "steps": 4, "order_temperature": 0.2},
    {"order": "prob_diff", "token": SamplingConfig(temperature=0.7, top_k=4, top_p=0.9)},
]


@pytest.mark.parametrize("options", SAMPLED, ids=str)
def test_a_row_does_not_depend_on_the_rows_beside_it(predictor, seq2seq, batch, options):
    together = predictor(**options).predict(batch, seed=3)
    order = [5, 2, 7, 0]
    some = seq2seq([(PROMPTS[n], []) for n in order], "predict", draws=order, length=9)
    few = predictor(**options).predict(some, seed=3)
    assert _written(few) == [_written(together)[n] for n in order]
    assert few.nfe.tolist() == together.nfe[order].tolist()
    for n, prompt in enumerate(PROMPTS):
        alone = predictor(**options).predict(seq2seq([(prompt, [])], "predict", draws=[n], length=9), seed=3)
        assert _written(alone) == [_written(together)[n]]


def test_padding_changes_nothing(predictor, seq2seq, batch):
    wide = seq2seq([(p, []) for p in PROMPTS], "predict", length=9, prompt_length=70, pad_to_longest=False)
    assert wide["input_ids"].shape[1] == 81
    for options in SAMPLED:
        one, other = (predictor(**options).predict(b, seed=3, trace=True) for b in (batch, wide))
        assert _written(one) == _written(other)
        assert torch.equal(one.nfe, other.nfe)


def test_choices_come_from_the_seed_and_the_draw(predictor, lm):
    same = lm([[]] * 4, "predict", draws=[5, 5, 6, 6], length=9)
    first, second, third, fourth = _written(predictor().predict(same, seed=0))
    assert first == second != third == fourth
    assert _written(predictor().predict(same, seed=0)) == [first, second, third, fourth]
    assert _written(predictor().predict(same, seed=1))[0] != first


@pytest.mark.parametrize("options", SAMPLED, ids=str)
def test_evaluations_are_counted_and_ended_rows_are_not_evaluated(network, predictor, infill, options, monkeypatch):
    calls = []
    original = network.hidden
    monkeypatch.setattr(network, "hidden", lambda ids, **kw: calls.append(len(ids)) or original(ids, **kw))
    rows = [([7] * 9, set(range(n))) for n in (0, 9, 4, 1, 6)]
    nfe = predictor(**options).predict(infill(rows, "predict"), seed=3).nfe
    assert len(calls) == nfe.max()
    assert calls == [int((nfe > step).sum()) for step in range(len(calls))]
    assert nfe[0] == 0


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 9, 10, 500])
def test_masks_are_divided_among_the_steps_and_none_is_wasted(predictor, infill, steps):
    """More steps than masks are as many as masks; all masks at once is one step."""
    rows = [([7] * 9, set(range(n))) for n in range(10)]
    for order in ("random", "prob_diff"):
        prediction = predictor(steps=steps, order=order).predict(infill(rows, "predict"), seed=0, trace=True)
        assert prediction.nfe.tolist() == [min(n, steps) for n in range(10)]
        for n, trace in enumerate(prediction.traces):
            shares = [sum(e.step == step for e in trace.events) for step in range(min(n, steps))]
            assert sum(shares) == n
            assert max(shares, default=0) - min(shares, default=0) <= 1


def test_a_threshold_keeps_to_the_budget_and_needs_none(network, predictor, infill):
    rows = [([7] * 9, set(range(n))) for n in (9, 7, 3)]
    batch = infill(rows, "predict")
    one_by_one = predictor(order="top_prob", threshold=0.0).predict(batch, seed=0)
    assert one_by_one.nfe.tolist() == [9, 7, 3]
    budget = predictor(order="top_prob", threshold=0.0, steps=4).predict(batch, seed=0, trace=True)
    assert budget.nfe.tolist() == [4, 4, 3]
    assert max(sum(e.step == step for e in budget.traces[0].events) for step in range(4)) == 3
    assert predictor(order="top_prob", threshold=99.0).predict(batch, seed=0).nfe.tolist() == [1, 1, 1]
    assert predictor(order="top_prob").predict(batch, seed=0).nfe.tolist() == [9, 7, 3]
    surest = {"order": "prob_diff", "token": GREEDY}
    calls = [int(predictor(threshold=t, **surest).predict(batch, seed=0).nfe[0]) for t in (0.0, 1.0, 2.0, 4.0)]
    assert calls == sorted(calls, reverse=True)
    assert len(set(calls)) > 2


@pytest.mark.parametrize("options", SAMPLED, ids=str)
def test_no_special_token_is_written_but_eos_where_a_row_may_end(network, predictor, specials, lm, infill, options):
    """The network prefers special tokens to all others. Were one written, a mask would even be a hole again."""
    with torch.no_grad():
        network.head.weight[list(specials.never_generated)] *= 50
    prediction = predictor(**options).predict(lm([[]] * 200, "predict", length=9), seed=0)
    assert set(prediction.ids.unique().tolist()) <= {P, *range(7, 13)}
    lengths = (prediction.ids != P).sum(-1)
    assert torch.equal(prediction.ids != P, torch.arange(prediction.ids.shape[1]) < lengths[:, None])
    assert len(lengths.unique()) > 1
    for given in ({"fill": False}, {"packed": True, "lengths": {9: 1.0}}):
        prediction = predictor(**options).predict(lm([[]] * 50, "predict", length=9, **given), seed=0)
        assert prediction.ids.shape == (50, 9)
        assert (prediction.ids >= 7).all()
    with torch.no_grad():
        network.head.weight[E] *= 50
    prediction = predictor(**options).predict(infill([([7] * 9, set(range(2, 9)))] * 50, "predict"), seed=0)
    assert (prediction.ids >= 7).all()
    assert (prediction.ids[:, :2] == 7).all()


def test_masks_behind_eos_are_not_evaluated(network, predictor, lm):
    """A network that is sure of EOS everywhere ends a row of 10 masks as soon as the leftmost column is written."""
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.weight[E] = 1
        network.final_norm.weight.zero_()
        network.final_norm.bias.fill_(5)
    prediction = predictor(token=GREEDY).predict(lm([[]] * 60, "predict", length=9), seed=0, trace=True)
    assert (prediction.ids == P).all()
    assert 1 < prediction.nfe.double().mean() < 5  # records in a random order of 10: 2.93 on average
    assert all(trace.start == () and trace.events == [] for trace in prediction.traces)


def test_text_is_continued_and_its_beginning_left_alone(predictor, lm):
    prompts = [[7, 8, 9], [], [3, 3, 12, 12, 12, 12, 12, 12]]
    prediction = predictor(token=GREEDY).predict(lm(prompts, "predict", length=9), seed=0, trace=True)
    for row, trace, prompt in zip(_written(prediction), prediction.traces, prompts, strict=True):
        assert len(row) <= 10 - len(prompt)
        assert trace.start == (M,) * len(row)
        assert list(final(trace)) == row
    masked_prompt = predictor().predict(lm([[7, M, 8]], "predict", length=3), seed=0)
    assert masked_prompt.nfe.tolist() == [1]


def test_a_batch_is_not_edited(predictor, batch):
    before = copy.deepcopy(batch)
    for options in SAMPLED:
        predictor(**options).predict(batch, seed=0, trace=True)
    assert all(torch.equal(batch[name], before[name]) for name in before)
    assert batch.keys() == before.keys()


def test_logits_in_pieces_are_the_same(predictor, batch, monkeypatch):
    for options in SAMPLED:
        whole = predictor(**options).predict(batch, seed=3)
        monkeypatch.setattr("xlm_family_mlm.predictor.CHUNK_ELEMENTS", 20)
        assert torch.equal(predictor(**options).predict(batch, seed=3).ids, whole.ids)
        monkeypatch.undo()


def test_it_decodes_in_bfloat16_autocast(network, tokenizer, batch):
    single = copy.deepcopy(network).float()
    decoder = MlmPredictor(PredictorConfig(order="entropy", threshold=0.3, token=GREEDY), single, tokenizer)
    with torch.autocast("cpu", torch.bfloat16):
        half = decoder.predict(batch, seed=0, trace=True)
    assert set(half.ids.unique().tolist()) <= {P, *range(7, 13)}
    assert all(0 < event.confidence <= 1 for trace in half.traces for event in trace.events)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "sure"}, "order='sure'"),
        ({"steps": 0}, "steps=0"),
        ({"order_temperature": -1.0, "order": "entropy"}, "is negative"),
        ({"threshold": 0.1}, "order=random has none"),
        ({"order_temperature": 0.1}, "order=random has none"),
    ],
)
def test_options_that_make_no_sense_are_refused(predictor, options, message):
    with pytest.raises(ConfigError, match=message):
        predictor(**options)
