"""The decoder's book-keeping: order, room, traces, evaluations, and what it may write."""

from __future__ import annotations

import copy
import itertools
import math
import warnings

import pytest
import torch
from xlm_family_flexmdm.config import PredictorConfig
from xlm_family_flexmdm.metrics import refused
from xlm_family_flexmdm.predictor import FlexmdmPredictor

from xlm_core.cli.watch import frames, line
from xlm_core.config import SamplingConfig
from xlm_core.errors import ConfigError
from xlm_core.protocols import Prediction
from xlm_core.trace import final, replay

PAD, MASK, EOS, BOS, FIRST = 0, 2, 3, 4, 7
GREEDY = SamplingConfig(temperature=0.0)
PAIRS = {"prompt_ids": [[7, 8], [9], [10, 11, 12], [], [12, 7, 7, 7], [8]], "input_ids": [[8]] * 6}
HOLES = {"prompt_ids": [[7, MASK, MASK, 10], [MASK, 8, 9, MASK], [7, 8], [MASK], [11, 12, MASK, 7]], "input_ids": [[]] * 5}

pytestmark = pytest.mark.filterwarnings("ignore:rows wanted more")


@pytest.fixture
def holes(batch_of):
    return batch_of("infill", "predict", prompt_ids=HOLES["prompt_ids"], input_ids=HOLES["prompt_ids"])


@pytest.fixture
def predictor(network, tokenizer):
    def make(model=network, *, steps=12, room=10, **options):
        return FlexmdmPredictor(PredictorConfig(steps=steps, max_new_tokens=room, **options), model, tokenizer)

    return make


def _lists(prediction):
    return [[token for token in row if token] for row in prediction.ids.tolist()]


@pytest.mark.parametrize("gap", ["rounded", "nearest", "poisson"])
@pytest.mark.parametrize("order", ["random", "position", "top_prob", "prob_diff", "entropy"])
def test_traces_replay_to_the_answers(predictor, batch_of, order, gap):
    batch = batch_of("seq2seq", "predict", **PAIRS)
    prediction = predictor(order=order, gap=gap).predict(batch, seed=4, trace=True)
    assert [final(trace) for trace in prediction.traces] == _lists(prediction)
    assert max(len(trace.events) for trace in prediction.traces) > 8
    several = [
        step
        for trace in prediction.traces
        for step, group in itertools.groupby(trace.events, key=lambda event: event.step)
        if sum(event.operation == "insert" for event in group) > 1
    ]
    assert several, "some steps should insert more than one mask"
    for trace, nfe in zip(prediction.traces, prediction.nfe.tolist(), strict=True):
        assert [e.step for e in trace.events] == sorted(e.step for e in trace.events)
        assert all(e.step < nfe and e.time == e.step / 12 for e in trace.events)
        assert all((e.token == MASK) == (e.operation == "insert") for e in trace.events)
        assert all(math.isnan(e.confidence) == (e.operation == "insert") for e in trace.events)
        assert sum(e.operation == "insert" for e in trace.events) == sum(e.operation == "unmask" for e in trace.events)


@torch.no_grad()
@pytest.mark.parametrize("order", ["random", "position", "top_prob", "prob_diff", "entropy"])
def test_each_step_is_what_the_network_says_of_its_canvas(predictor, network, batch_of, order):
    """F2, F4: which masks are revealed, with which token and probability, from the trace and the network alone."""
    batch = batch_of("seq2seq", "predict", **PAIRS)
    prediction = predictor(order=order, token=GREEDY, gap="poisson", steps=6).predict(batch, seed=4, trace=True)
    choices = 0
    for prompt, trace in zip(PAIRS["prompt_ids"], prediction.traces, strict=True):
        canvases = dict(_first_of_steps(trace))
        for step, group in itertools.groupby(trace.events, key=lambda event: event.step):
            revealed = [event for event in group if event.operation == "unmask"]
            canvas = canvases[step]
            ids = torch.tensor([[*prompt, BOS, *canvas, EOS]])
            logits, _ = network(ids, torch.tensor([step / 6], dtype=torch.float64), torch.ones_like(ids, dtype=torch.bool))
            law = logits[0, len(prompt) + 1 : -1, FIRST:].softmax(-1)
            masks = [place for place, token in enumerate(canvas) if token == MASK]
            assert all(event.position in masks for event in revealed)
            for event in revealed:
                assert event.token == FIRST + int(law[event.position].argmax())
                assert event.confidence == pytest.approx(float(law[event.position].max()), rel=1e-5)
            if order != "random" and revealed:
                choices += len(revealed) < len(masks)
                best = sorted(masks, key=lambda place: -_sureness(law[place], place, order))[: len(revealed)]
                assert sorted(event.position for event in revealed) == sorted(best)
            if step == 5:
                assert len(revealed) == len(masks), "the last step reveals everything"
    assert order == "random" or choices > 3


@pytest.mark.parametrize(
    "order, surest, other",
    [
        ("top_prob", [0.5, 0.5, 0, 0, 0, 0], [0.49, 0.11, 0.1, 0.1, 0.1, 0.1]),
        ("prob_diff", [0.34, 0.14, 0.13, 0.13, 0.13, 0.13], [0.595, 0.405, 0, 0, 0, 0]),
        ("entropy", [0.5, 0.5, 0, 0, 0, 0], [0.75, 0.05, 0.05, 0.05, 0.05, 0.05]),
    ],
)
def test_sureness_is_of_the_law_and_not_of_a_softmax_of_it(predictor, order, surest, other):
    """F2: a softmax of the probabilities would put these in the other order. F4: three are due, and there are two masks."""
    law = torch.tensor([[other, [0.0, 1.0, 0, 0, 0, 0], surest]], dtype=torch.float64)
    waiting, due = torch.tensor([[True, False, True]]), torch.tensor([[True, False, False]])
    where, logits = predictor(order=order)._where(waiting, due, lambda columns: law.log()[columns])
    assert where.tolist() == [[False, False, True]]
    torch.testing.assert_close(logits.softmax(-1), law[0, 2:])
    where, _ = predictor(order=order)._where(waiting, torch.ones_like(due), lambda columns: law.log()[columns])
    assert torch.equal(where, waiting)


def _first_of_steps(trace):
    """The canvas before each step's events."""
    seen, before = set(), None
    for event, canvas in replay(trace):
        if event is not None and event.step not in seen:
            seen.add(event.step)
            yield event.step, before
        before = canvas


def _sureness(law, place, order):
    ranked = law.sort(descending=True).values
    return {
        "position": -place,
        "top_prob": float(ranked[0]),
        "prob_diff": float(ranked[0] - ranked[1]),
        "entropy": float((law * law.log()).sum()),
    }[order]


@pytest.mark.parametrize("order, insertion, unmasking", [("prob_diff", "linear", "linear"), ("random", "sin", "polynomial")])
def test_masks_are_revealed_at_the_times_of_the_process(law, two_words, batch_of, order, insertion, unmasking):
    """F1: the number of reveals includes the hazard. By time t a token is clean with the probability that noise gives it."""
    truth = law({(0, 1, 1): 1.0}, insertion=insertion, unmasking=unmasking)
    rows = 1500
    predictor = FlexmdmPredictor(PredictorConfig(steps=64, max_new_tokens=6, order=order), truth, two_words)
    traces = predictor.predict(batch_of("lm", "predict", input_ids=[[]] * rows, words=two_words), seed=0, trace=True).traces
    events = [event for trace in traces for event in trace.events]
    inserted = torch.tensor([e.time for e in events if e.operation == "insert"], dtype=torch.float64)
    unmasked = torch.tensor([e.time for e in events if e.operation == "unmask"], dtype=torch.float64)
    at = torch.tensor(0.625, dtype=torch.float64)
    grid = torch.linspace(0, float(at), 4001, dtype=torch.float64)
    kernel = truth.insertion.derivative(grid) * truth.unmasking.remaining(at) / truth.unmasking.remaining(grid)
    clean = float(truth.insertion.value(at) - torch.trapezoid(kernel, grid))
    assert float((inserted < at).double().mean()) == pytest.approx(float(truth.insertion.value(at)), abs=0.03)
    assert float((unmasked < at).double().mean()) == pytest.approx(clean, abs=0.04)


def test_the_last_step_fills_a_share_of_one_in_steps(law, two_words, batch_of):
    truth = law({(0, 1, 1): 1.0})
    shares = []
    for steps in (8, 32):
        predictor = FlexmdmPredictor(PredictorConfig(steps=steps, max_new_tokens=6, order="prob_diff"), truth, two_words)
        batch = batch_of("lm", "predict", input_ids=[[]] * 1500, words=two_words)
        events = [e for trace in predictor.predict(batch, seed=0, trace=True).traces for e in trace.events]
        late = [e.step >= steps - 1 for e in events if e.operation == "unmask"]
        shares.append(sum(late) / len(late))
    assert shares[0] < 0.5
    assert shares[0] / shares[1] == pytest.approx(32 / 8, rel=0.5)


def test_a_network_that_knows_the_answer_writes_it(law, two_words, batch_of):
    """With probability going to 1 as steps grow, and with the exact number of tokens for any number of steps."""
    target = (0, 1, 1, 0)
    truth = law({target: 1.0}, head="distribution")
    batch = batch_of("lm", "predict", input_ids=[[]] * 1000, words=two_words)
    missed = []
    for steps in (8, 32, 128):
        predictor = FlexmdmPredictor(PredictorConfig(steps=steps, max_new_tokens=8), truth, two_words)
        rows = [tuple(token - FIRST for token in row) for row in _lists(predictor.predict(batch, seed=0))]
        missed.append(sum(row != target for row in rows) / 1000)
        short = sum(len(row) != 4 for row in rows) / 1000
        assert short < 5 / steps
    assert missed[2] < 0.06
    assert missed[0] > 2 * missed[1] > 3 * missed[2]


def test_visible_tokens_stay_and_closed_gaps_stay_closed(predictor, network, holes):
    """F10: new tokens stand where the holes were, and nowhere else."""
    with torch.no_grad():
        network.length.outer.bias[0] = -1.5  # or every row would be full
    lengths = set()
    for seed in range(6):
        for row, prompt in zip(_lists(predictor().predict(holes, seed=seed)), HOLES["prompt_ids"], strict=True):
            assert not {MASK, EOS, BOS} & set(row)
            assert _fits(row, prompt), (row, prompt)
            lengths.add(len(row) - sum(token != MASK for token in prompt))
    assert len(lengths) > 3, "holes should be filled with different numbers of tokens"


def _fits(row, prompt):
    """Whether a row is the prompt with anything at each run of masks."""
    import re

    pattern = re.sub(r"(?:\.\*)+", ".*", "".join(".*" if token == MASK else chr(token + 60) for token in prompt))
    return re.fullmatch(pattern, "".join(chr(token + 60) for token in row)) is not None


def test_rows_without_a_hole_are_never_evaluated(predictor, holes):
    prediction = predictor().predict(holes, seed=1, trace=True)
    assert prediction.nfe[2] == 0
    assert _lists(prediction)[2] == [7, 8]
    assert prediction.traces[2].events == []


def test_evaluations_are_counted(predictor, network, holes, monkeypatch):
    seen = []
    read = network.read
    monkeypatch.setattr(network, "read", lambda ids, *rest: seen.append(len(ids)) or read(ids, *rest))
    nfe = predictor(room=4).predict(holes, seed=1).nfe
    assert int(nfe.max()) == len(seen)
    assert int(nfe.sum()) == sum(seen)
    assert len(set(nfe.tolist())) > 2, "rows that are full and have no masks should leave early"
    assert int(nfe.max()) <= 13


@pytest.mark.parametrize("order", ["random", "entropy"])
@pytest.mark.parametrize("layout", ["seq2seq", "infill"])
def test_a_row_does_not_depend_on_the_rows_beside_it(predictor, batch_of, layout, order):
    columns = PAIRS if layout == "seq2seq" else {"prompt_ids": HOLES["prompt_ids"], "input_ids": HOLES["prompt_ids"]}
    rows = len(columns["prompt_ids"])
    together = predictor(order=order).predict(batch_of(layout, "predict", **columns), seed=3)
    for row in reversed(range(rows)):
        one = batch_of(layout, "predict", draws=[row], **{name: [values[row]] for name, values in columns.items()})
        alone = predictor(order=order).predict(one, seed=3)
        assert _lists(alone)[0] == _lists(together)[row]
        assert (alone.nfe[0], alone.refused[0]) == (together.nfe[row], together.refused[row])
    assert _lists(predictor(order=order).predict(batch_of(layout, "predict", **columns), seed=5)) != _lists(together)


def test_no_special_token_is_ever_written(predictor, network, batch_of):
    """F12, F16: however probable the network finds them; what is written follows the law of the words alone."""
    batch = batch_of("lm", "predict", input_ids=[[]] * 40)
    with torch.no_grad():
        network.head.weight[:FIRST] = 100 * network.final_norm.norm.weight.mean()
    tokens = {token for row in _lists(predictor().predict(batch, seed=0)) for token in row}
    assert tokens <= set(range(FIRST, 13))
    assert len(tokens) > 2


def test_the_nucleus_keeps_the_token_that_crosses_it(law, two_words, batch_of):
    """G3: of 0.6 and 0.4, top_p 0.7 keeps both."""
    truth = law({(0,): 0.6, (1,): 0.4})
    batch = batch_of("lm", "predict", input_ids=[[]] * 400, words=two_words)
    for top_p, share in ((0.7, 0.6), (0.5, 1.0)):
        predictor = FlexmdmPredictor(PredictorConfig(steps=4, token=SamplingConfig(top_p=top_p)), truth, two_words)
        words = [row[0] for row in _lists(predictor.predict(batch, seed=0)) if len(row) == 1]
        assert len(words) > 300
        assert words.count(FIRST) / len(words) == pytest.approx(share, abs=0.1)


def test_a_replay_shows_masks_come_and_become_tokens(predictor, batch_of, tokenizer):
    """What `xlm generate --watch` prints."""
    batch = batch_of("seq2seq", "predict", **PAIRS)
    prediction = predictor().predict(batch, seed=4, trace=True)
    for trace, row in zip(prediction.traces, _lists(prediction), strict=True):
        start, *steps = (line(frame, tokenizer.convert_ids_to_tokens) for frame in frames(trace))
        assert start == "start: "
        assert "insert" in steps[0]
        assert "[[MASK]]" in steps[0]
        assert any("unmask" in text for text in steps)
        label, _, words = steps[-1].partition(": ")
        assert "unmask" in label
        assert words.replace("[", "").replace("]", "").split() == tokenizer.convert_ids_to_tokens(row)


@pytest.mark.parametrize("order", ["random", "prob_diff"])
def test_it_decodes_in_mixed_precision(predictor, network, batch_of, order):
    """F6: as in evaluation, without a warning."""
    with torch.no_grad():
        network.length.outer.bias[0] = -3.0  # answers that fit
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.simplefilter("error")
        batch = batch_of("seq2seq", "predict", **PAIRS)
        prediction = predictor(network.float(), order=order, room=60).predict(batch, seed=0, trace=True)
    assert prediction.ids.shape[1] > 1
    assert [final(trace) for trace in prediction.traces] == _lists(prediction)
    assert not {MASK, EOS, BOS} & {token for row in _lists(prediction) for token in row}


def test_what_does_not_fit_is_counted_and_said(predictor, batch_of, tokenizer):
    """F13: a row is filled up to its limit, not left without the step's insertions."""
    batch = batch_of("lm", "predict", input_ids=[[]] * 20, prompt_ids=[[7] * (n % 3) for n in range(20)])
    with pytest.warns(UserWarning, match="max_new_tokens=2"):
        prediction = predictor(room=2, steps=3).predict(batch, seed=0)
    assert max(map(len, _lists(prediction))) == 2
    assert prediction.refused.sum() > 0
    ratio = refused(prediction, batch, tokenizer)["refused"]
    assert torch.equal(ratio.total, prediction.refused.double())
    assert ratio.count.tolist() == [1.0] * 20
    with pytest.raises(TypeError):
        refused(Prediction(prediction.ids, prediction.nfe), batch, tokenizer)


def test_room_enough_refuses_nothing(law, two_words, batch_of, recwarn):
    batch = batch_of("lm", "predict", input_ids=[[]] * 200, words=two_words)
    predictor = FlexmdmPredictor(PredictorConfig(steps=8, max_new_tokens=20), law(), two_words)
    assert not predictor.predict(batch, seed=0).refused.any()
    assert not [w for w in recwarn if "rows wanted" in str(w.message)]


def test_gaps_beyond_the_names_of_the_head_are_no_error(predictor, build_network, batch_of):
    """F3: canvases that are wider than the head has classes."""
    network = build_network(length_head="distribution", max_gap=3)
    rows = _lists(predictor(network, room=30).predict(batch_of("seq2seq", "predict", **PAIRS), seed=0))
    assert max(map(len, rows)) > 5


def test_texts_go_on_after_a_prompt(predictor, batch_of):
    """F14: the answer is what comes after it."""
    batch = batch_of("lm", "predict", prompt_ids=[[7, 8, 9], []])
    prediction = predictor().predict(batch, seed=2, trace=True)
    assert prediction.traces[0].start == ()
    assert [final(trace) for trace in prediction.traces] == _lists(prediction)


def test_the_batch_is_not_written_to(predictor, holes):
    before = copy.deepcopy(holes)
    predictor().predict(holes, seed=0, trace=True)
    assert all(torch.equal(holes[name], before[name]) for name in before)


@pytest.mark.parametrize("order", ["random", "position", "top_prob", "prob_diff", "entropy"])
def test_one_step_is_two_evaluations(law, two_words, batch_of, order):
    """G4: the first inserts, the second fills what was inserted, however many masks that is."""
    predictor = FlexmdmPredictor(PredictorConfig(steps=1, order=order, gap="drawn"), law(head="distribution"), two_words)
    prediction = predictor.predict(batch_of("lm", "predict", input_ids=[[]] * 100, words=two_words), seed=0)
    assert set(prediction.nfe.tolist()) == {1, 2}
    assert all(len(row) == 0 for row, nfe in zip(_lists(prediction), prediction.nfe.tolist(), strict=True) if nfe == 1)
    assert not any(MASK in row for row in _lists(prediction))


@pytest.mark.parametrize(
    "options, word",
    [
        ({"order": "best"}, "best"),
        ({"gap": "mean"}, "mean"),
        ({"gap": "drawn"}, "needs a law"),
        ({"steps": 0}, "steps"),
        ({"room": 0}, "max_new"),
    ],
)
def test_wrong_configs_are_refused(predictor, options, word):
    with pytest.raises(ConfigError, match=word):
        predictor(**options)
