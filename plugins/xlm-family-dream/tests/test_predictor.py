"""The decoder against one that is written out: one row at a time, without padding, batch or cache."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from xlm_family_dream.config import PredictorConfig
from xlm_family_dream.predictor import DreamPredictor

from xlm_core.config import SamplingConfig
from xlm_core.errors import ConfigError
from xlm_core.trace import final

P, M, E, B = 0, 2, 3, 4
PROMPTS = [[7, 8, 9, 12], [7], [], [3, 8, 3], [11, 9, 12, 8, 8], [12, 11]]
"""3 is EOS: in a prompt it ends nothing."""
CUT = SamplingConfig(temperature=0.0, top_k=4, top_p=0.6)
OPTIONS = [
    *({"order": order, **limit} for order in ("top_prob", "prob_diff", "entropy") for limit in ({}, {"steps": 4})),
    {"schedule": "linear"},
    {"schedule": "linear", "steps": 6, "order": "top_prob", "close": False},
    {"schedule": "linear", "steps": 25, "order": "prob_diff"},
    {"close": False, "steps": 5},
    {"block_size": 4},
    {"block_size": 3, "steps": 7, "order": "prob_diff"},
    {"block_size": 4, "steps": 8, "schedule": "linear", "order": "top_prob", "close": False},
    {"block_size": 1, "steps": 2},
    {"block_size": 5, "steps": 3, "token": CUT},
    {"threshold": 0.5},
    {"threshold": 0.3, "order": "top_prob", "block_size": 4, "steps": 6, "token": CUT},
    {"token": CUT, "order": "entropy"},
]
CACHED = [
    {"block_size": 4, "cache": cache, **more}
    for cache in ("prefix", "dual")
    for more in ({}, {"steps": 6}, {"threshold": 0.4}, {"schedule": "linear", "steps": 8}, {"block_size": 1, "close": False})
]


@pytest.fixture
def predictor(network, tokenizer):
    def make(**options):
        return DreamPredictor(PredictorConfig(**options), network, tokenizer)

    return make


@pytest.fixture
def batch(seq2seq):
    return seq2seq([(prompt, []) for prompt in PROMPTS], "predict", length=9)


def _written(prediction):
    return [[token for token in row if token] for row in prediction.ids.tolist()]


def _law(logits, token):
    """Nucleus of everything, then the k best: the probabilities, cut and normalised."""
    law = logits.softmax(-1)
    ranked = law.sort(descending=True)
    kept, mass = [], 0.0
    for probability, index in zip(ranked.values.tolist(), ranked.indices.tolist(), strict=True):
        if mass < (token.top_p or 2.0) and len(kept) < (token.top_k or 99):
            kept.append(index)
        mass += probability
    cut = torch.zeros_like(law)
    cut[kept] = law[kept]
    return cut / cut.sum()


def _confidence(law, order):
    best, second = law.sort(descending=True).values[:2].tolist()
    if order == "entropy":
        return sum(p * math.log(p) for p in law.tolist() if p > 0)
    return best - (second if order == "prob_diff" else 0)


def _shares(cfg, blocks):
    """How many steps each block has."""
    if cfg.steps is None:
        return [max(masks, 1) for masks in blocks]
    so_far = [cfg.steps * sum(blocks[:n]) // max(sum(blocks), 1) for n in range(len(blocks) + 1)]
    return [max(1, b - a) for a, b in itertools.pairwise(so_far)]


def _states(network, canvas, block, kept, kind):
    """The states of a canvas: exact, or with what is outside the window as it was before every layer when the block began."""
    ids = torch.tensor([canvas])
    if kind == "none" or kept is None:
        layers = []
        handles = [b.register_forward_pre_hook(lambda _, args: layers.append(args[0])) for b in network.blocks]
        states = network.hidden(ids)
        for handle in handles:
            handle.remove()
        return states[0], layers
    from xlm_core.nn.attention import AttentionMask
    from xlm_core.nn.rotary import rotary

    window = torch.zeros(len(canvas), dtype=torch.bool)
    window[max(block.start - 1, 0) : block.stop if kind == "dual" else len(canvas)] = True
    angles = rotary(torch.arange(len(canvas)), network.head_dim, network.cfg.rope_theta)
    x = network.embedding(ids)
    for layer, before in zip(network.blocks, kept, strict=True):
        x = layer(torch.where(window[:, None], x, before), angles, AttentionMask())
    return network.final_norm(x)[0], kept


def _spell_out(network, specials, canvas, start, cfg, *, ends=True):
    """Greedy decoding by definition: the canvas, (step, column, token, probability) of each choice, evaluations."""
    canvas, events, step = list(canvas), [], 0
    size = cfg.block_size or len(canvas)
    blocks = [range(begin, min(begin + size, len(canvas))) for begin in range(start, len(canvas), size)]
    steps = _shares(cfg, [sum(canvas[column] == M for column in block) for block in blocks])

    def going():
        answer = canvas[start:]
        return M in (answer[: answer.index(E)] if ends and E in answer else answer)

    for block, budget in zip(blocks, steps, strict=True):
        turn, kept = 0, None
        while going() and any(canvas[column] == M for column in block):
            masks = [column for column in block if canvas[column] == M]
            left = max(budget - turn, 1)
            count = -(-len(masks) // left)
            if cfg.schedule == "linear":
                t, s = (1 - (1 - 1e-3) * n / budget for n in (turn, turn + 1))
                count = len(masks) if left == 1 else int(len(masks) * (1 - s / t))
            turn += 1
            if count == 0:
                continue
            states, kept = _states(network, canvas, block, kept, cfg.cache)
            logits = network.head(states)
            logits = torch.cat([logits[:1], logits[:-1]])
            logits[:, [*specials.never_generated, *([] if ends else [E])]] = -torch.inf
            laws = {column: _law(logits[column], cfg.token) for column in masks}
            first = sorted(masks, key=lambda column: -_confidence(laws[column], cfg.order))
            sure = [column for column in masks if cfg.threshold and laws[column].max() >= cfg.threshold]
            for column in {*first[:count], *sure}:
                canvas[column] = int(laws[column].argmax())
                events.append((step, column, canvas[column], float(laws[column].max())))
            if ends and cfg.close and E in canvas[start:]:
                end = canvas.index(E, start)
                canvas = [E if token == M and column > end else token for column, token in enumerate(canvas)]
            step += 1
    return canvas, sorted(events), step


@pytest.mark.parametrize("options", [*OPTIONS, *CACHED], ids=str)
@torch.no_grad()
def test_greedy_answers_are_those_of_the_definition(network, predictor, specials, batch, options):
    prediction = predictor(**options).predict(batch, seed=0, trace=True)
    for n, prompt in enumerate(PROMPTS):
        begin = len(prompt) + 1
        canvas, events, steps = _spell_out(network, specials, [*prompt, B, *[M] * 10], begin, PredictorConfig(**options))
        answer = canvas[begin:]
        answer = answer[: answer.index(E)] if E in answer else answer
        assert _written(prediction)[n] == answer
        assert prediction.nfe[n] == steps
        kept = [(step, column - begin, token, p) for step, column, token, p in events]
        kept = [event for event in kept if event[1] < len(answer)]
        trace = prediction.traces[n]
        assert trace.start == (M,) * len(answer)
        assert [(e.step, e.position, e.token, e.operation) for e in trace.events] == [(*event[:3], "unmask") for event in kept]
        assert [e.confidence for e in trace.events] == pytest.approx([event[3] for event in kept])
        assert list(final(trace)) == answer


@pytest.mark.parametrize("options", [{}, {"order": "top_prob", "block_size": 4}, {"schedule": "linear"}], ids=str)
@torch.no_grad()
def test_in_float32_too(network, tokenizer, specials, batch, options):
    single = copy.deepcopy(network).float()
    rows = _written(DreamPredictor(PredictorConfig(**options), single, tokenizer).predict(batch, seed=0))
    for row, prompt in zip(rows, PROMPTS, strict=True):
        cfg = PredictorConfig(**options)
        answer = _spell_out(single, specials, [*prompt, B, *[M] * 10], len(prompt) + 1, cfg)[0][len(prompt) + 1 :]
        assert row == (answer[: answer.index(E)] if E in answer else answer)


@pytest.mark.parametrize("options", [{}, {"block_size": 3, "schedule": "linear", "steps": 5}, *CACHED[1:9:3]], ids=str)
@torch.no_grad()
def test_holes_are_filled_and_nothing_else_changes(network, predictor, specials, infill, options):
    rows = [([7, 3, 9, 10, 8], {0, 2, 4}), ([8, 8], set()), ([9, 12, 7], {0, 1, 2}), ([11] * 7, {1, 2, 3, 5})]
    network.head.weight[E] *= 30
    prediction = predictor(**options).predict(infill(rows, "predict"), seed=0, trace=True)
    for n, (text, holes) in enumerate(rows):
        canvas = [M if column in holes else token for column, token in enumerate(text)]
        filled, _, steps = _spell_out(network, specials, [B, *canvas], 1, PredictorConfig(**options), ends=False)
        assert _written(prediction)[n] == filled[1:]
        assert prediction.nfe[n] == steps
        assert list(prediction.traces[n].start) == canvas
        assert list(final(prediction.traces[n])) == filled[1:]
    assert prediction.nfe[1] == 0


@torch.no_grad()
def test_without_bos_a_first_column_is_decoded_from_its_own_state(network, predictor, specials, seq2seq):
    prompts = ([], [7, 9], [8])
    batch = seq2seq([(prompt, []) for prompt in prompts], "predict", length=9, bos=False)
    for options in ({}, {"block_size": 4, "cache": "dual", "close": False}):
        prediction = predictor(**options).predict(batch, seed=0, trace=True)
        for row, trace, prompt in zip(_written(prediction), prediction.traces, prompts, strict=True):
            start = len(prompt)
            canvas, events, _ = _spell_out(network, specials, [*prompt, *[M] * 10], start, PredictorConfig(**options))
            answer = canvas[start:]
            answer = answer[: answer.index(E)] if E in answer else answer
            assert row == answer
            expected = [p for _, column, _, p in events if column - start < len(answer)]
            assert [event.confidence for event in trace.events] == pytest.approx(expected)


WARM = SamplingConfig(temperature=0.8, top_p=0.95)
SAMPLED = [
    {"order": "random", "token": WARM},
    {"order": "random", "schedule": "linear", "steps": 5, "token": WARM},
    {"order": "random", "threshold": 0.6, "steps": 6},
    {"order": "entropy", "order_temperature": 0.4, "steps": 4, "token": WARM},
    {"order": "top_prob", "schedule": "linear", "steps": 7, "token": WARM, "close": False},
    {"order": "prob_diff", "block_size": 4, "cache": "dual", "threshold": 0.5, "token": SamplingConfig(top_k=4)},
    {"order": "top_prob", "block_size": 3, "cache": "prefix", "order_temperature": 0.3, "token": WARM, "stop": ["a b", "c"]},
]


@pytest.mark.parametrize("options", SAMPLED, ids=str)
def test_a_row_does_not_depend_on_the_rows_beside_it_nor_on_padding(predictor, seq2seq, batch, options):
    together = predictor(**options).predict(batch, seed=3, trace=True)
    order = [5, 2, 4, 0]
    some = seq2seq([(PROMPTS[n], []) for n in order], "predict", draws=order, length=9)
    few = predictor(**options).predict(some, seed=3)
    assert _written(few) == [_written(together)[n] for n in order]
    assert few.nfe.tolist() == together.nfe[order].tolist()
    for n, prompt in enumerate(PROMPTS):
        alone = predictor(**options).predict(seq2seq([(prompt, [])], "predict", draws=[n], length=9), seed=3)
        assert _written(alone) == [_written(together)[n]]
    wide = seq2seq([(p, []) for p in PROMPTS], "predict", length=9, prompt_length=70, pad_to_longest=False)
    assert wide["input_ids"].shape[1] == 81
    other = predictor(**options).predict(wide, seed=3, trace=True)
    assert _written(other) == _written(together)
    assert torch.equal(other.nfe, together.nfe)
    assert [list(final(trace)) for trace in other.traces] == _written(together)


def test_choices_come_from_the_seed_and_the_draw(predictor, lm):
    decoder = predictor(order="random", token=WARM)
    same = lm([[]] * 4, "predict", draws=[5, 5, 6, 6], length=9)
    first, second, third, fourth = _written(decoder.predict(same, seed=0))
    assert first == second != third == fourth
    assert _written(decoder.predict(same, seed=0)) == [first, second, third, fourth]
    assert _written(decoder.predict(same, seed=1))[0] != first


@pytest.mark.parametrize("options", SAMPLED, ids=str)
def test_evaluations_are_counted_and_ended_rows_are_not_evaluated(network, predictor, infill, options, monkeypatch):
    calls = []
    original = network.hidden
    monkeypatch.setattr(network, "hidden", lambda ids, **kw: calls.append(len(ids)) or original(ids, **kw))
    rows = [([7] * 9, set(range(n))) for n in (0, 9, 4, 1, 6)]
    nfe = predictor(**options).predict(infill(rows, "predict"), seed=3).nfe
    assert nfe[0] == 0
    assert sum(calls) == nfe.sum()
    if "cache" not in options and "linear" not in options.values():
        assert calls == [int((nfe > step).sum()) for step in range(len(calls))]
    for row in rows[1:]:
        calls.clear()
        assert predictor(**options).predict(infill([row], "predict"), seed=3).nfe.tolist() == [len(calls)]


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 9, 10, 500])
def test_masks_are_divided_among_the_steps_and_none_is_wasted(predictor, infill, steps):
    """More steps than masks are as many as masks; all masks at once is one step."""
    rows = [([7] * 9, set(range(n))) for n in range(10)]
    for options in ({"order": "random"}, {"order": "prob_diff"}):
        prediction = predictor(steps=steps, **options).predict(infill(rows, "predict"), seed=0, trace=True)
        assert prediction.nfe.tolist() == [min(n, steps) for n in range(10)]
        for n, trace in enumerate(prediction.traces):
            shares = [sum(e.step == step for e in trace.events) for step in range(min(n, steps))]
            assert sum(shares) == n
            assert max(shares, default=0) - min(shares, default=0) <= 1


@pytest.mark.parametrize(("size", "steps"), [(1, 9), (2, 5), (3, 4), (3, 9), (4, 100), (9, 3)])
def test_blocks_are_finished_one_by_one_within_the_steps(predictor, infill, size, steps):
    """No size has to divide another."""
    prediction = predictor(block_size=size, steps=steps).predict(
        infill([([7] * 9, set(range(9)))], "predict"), seed=0, trace=True
    )
    events = prediction.traces[0].events
    assert len(events) == 9
    blocks = [event.position // size for event in sorted(events, key=lambda event: event.step)]
    assert blocks == sorted(blocks)
    assert prediction.nfe.item() <= steps


def test_the_linear_schedule_of_16_masks_in_8_steps(predictor, infill):
    """By hand: 16 (1 - s/t) = 1.998 -> 1, 15 * .1427 = 2.1, 13 * .1665 = 2.2, 11 * .1997 = 2.2, 9 * .2495 = 2.2,
    7 * .332 = 2.3, 5 * .498 = 2.5, and the last three."""
    batch = infill([([7] * 16, set(range(16)))], "predict")
    trace = predictor(schedule="linear", steps=8).predict(batch, seed=0, trace=True).traces[0]
    assert [sum(e.step == step for e in trace.events) for step in range(8)] == [1, 2, 2, 2, 2, 2, 2, 3]


def test_the_surest_comes_first_unless_noise_is_asked_for(network, predictor, infill):
    """Gumbel noise of temperature 1 on scores in [0, 1] takes another position first in many rows."""
    batch = infill([([7] * 4, {0, 1, 2, 3})] * 300, "predict")
    steps = {}
    for temperature in (0.0, 0.05, 1.0):
        decoder = predictor(order="top_prob", order_temperature=temperature)
        traces = decoder.predict(batch, seed=0, trace=True).traces
        steps[temperature] = [tuple(e.position for e in sorted(trace.events, key=lambda e: e.step)) for trace in traces]
    assert len(set(steps[0.0])) == 1
    usual = steps[0.0][0][0]
    assert sum(way[0] == usual for way in steps[1.0]) < 0.7 * 300
    assert 300 >= sum(way[0] == usual for way in steps[0.05]) > sum(way[0] == usual for way in steps[1.0])


@pytest.mark.parametrize("options", SAMPLED[:6], ids=str)
def test_no_special_token_is_written_but_eos_where_a_row_may_end(network, predictor, specials, lm, infill, options):
    """The network prefers special tokens to all others. Were one written, a mask would even be a hole again."""
    with torch.no_grad():
        network.head.weight[list(specials.never_generated)] *= 50
    prediction = predictor(**options).predict(lm([[]] * 100, "predict", length=9), seed=0)
    assert set(prediction.ids.unique().tolist()) <= {P, *range(7, 13)}
    lengths = (prediction.ids != P).sum(-1)
    assert torch.equal(prediction.ids != P, torch.arange(prediction.ids.shape[1]) < lengths[:, None])
    with torch.no_grad():
        network.head.weight[E] *= 50
    prediction = predictor(**options).predict(infill([([7] * 9, set(range(2, 9)))] * 30, "predict"), seed=0)
    assert (prediction.ids >= 7).all()
    assert (prediction.ids[:, :2] == 7).all()


def test_finished_rows_are_left_alone(network, predictor, seq2seq, specials):
    """A row that ends early in a batch with one that does not is as if it were alone, in later blocks too."""
    options = {"block_size": 2, "steps": 10}
    together = predictor(**options).predict(seq2seq([(p, []) for p in PROMPTS], "predict", length=9), seed=0)
    for n, prompt in enumerate(PROMPTS):
        alone = predictor(**options).predict(seq2seq([(prompt, [])], "predict", length=9), seed=0)
        assert _written(together)[n] == _written(alone)[0]
    assert M not in together.ids


def test_a_batch_is_not_edited(predictor, batch):
    before = copy.deepcopy(batch)
    for options in SAMPLED:
        predictor(**options).predict(batch, seed=0, trace=True)
    assert all(torch.equal(batch[name], before[name]) for name in before)
    assert batch.keys() == before.keys()


def test_logits_in_pieces_are_the_same(predictor, batch, monkeypatch):
    for options in SAMPLED[:4]:
        whole = predictor(**options).predict(batch, seed=3)
        monkeypatch.setattr("xlm_family_dream.drawing.CHUNK_ELEMENTS", 20)
        assert torch.equal(predictor(**options).predict(batch, seed=3).ids, whole.ids)
        monkeypatch.undo()


def test_it_decodes_in_bfloat16_autocast(network, tokenizer, batch):
    single = copy.deepcopy(network).float()
    for options in ({"steps": 4}, {"block_size": 4, "cache": "dual", "threshold": 0.7}):
        decoder = DreamPredictor(PredictorConfig(**options), single, tokenizer)
        with torch.autocast("cpu", torch.bfloat16):
            half = decoder.predict(batch, seed=0, trace=True)
        assert set(half.ids.unique().tolist()) <= {P, *range(7, 13)}
        assert all(0 < event.confidence <= 1 for trace in half.traces for event in trace.events)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "sure"}, "order='sure'"),
        ({"schedule": "cosine"}, "schedule='cosine'"),
        ({"steps": 0}, "steps=0"),
        ({"block_size": 0}, "block_size=0"),
        ({"cache": "all", "block_size": 4}, "cache='all'"),
        ({"cache": "dual"}, "there are no blocks"),
        ({"threshold": 0.0}, "threshold=0.0"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"order_temperature": -1.0}, "is negative"),
        ({"order": "random", "order_temperature": 0.1}, "order=random has none"),
        ({"stop": ["a", ""]}, "empty string"),
        ({"report_agreement": True}, "nothing is approximate"),
    ],
)
def test_options_that_make_no_sense_are_refused(predictor, options, message):
    with pytest.raises(ConfigError, match=message):
        predictor(**options)


def test_a_causal_network_has_no_block_cache(network, predictor):
    network.cfg.causal = True
    with pytest.raises(ConfigError, match="causal"):
        predictor(block_size=4, cache="prefix")
