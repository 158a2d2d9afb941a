"""Decoding: an oracle that knows what is missing, independence of the batch, what the network is shown, what may be changed."""

from __future__ import annotations

import pytest
import torch
from xlm_family_ilm.predictor import insert

from xlm_core.config import SamplingConfig
from xlm_core.errors import ConfigError
from xlm_core.trace import final, replay

LAYOUTS = ["lm", "seq2seq", "infill"]
GREEDY = SamplingConfig(temperature=0.0)
NOTHING = -1e4


def answers(prediction):
    lengths = (prediction.ids != 0).sum(-1).tolist()
    return [row[:n] for row, n in zip(prediction.ids.tolist(), lengths, strict=True)]


def missing(target, kept):
    """(gap, token) of what a target has more than what is kept of it, the kept ones found from the left."""
    found, place = [], 0
    for token in target:
        if place < len(kept) and kept[place] == token:
            place += 1
        else:
            found.append((place, token))
    assert place == len(kept), "a token was inserted that is not missing"
    return found


@pytest.mark.parametrize("kind", ["stop", "length"])
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("draw", [{}, {"gap": GREEDY, "token": GREEDY}], ids=["sampled", "greedy"])
def test_an_oracle_is_followed_to_the_target_in_as_many_steps_as_it_has_tokens(
    table, predictor_of, collate, tokenizer, specials, kind, joint, draw
):
    """n insertions in any order and one look more, which finds nothing missing."""
    targets = {(7,): [8, 9, 10, 8], (8,): [], (9,): [12], (10, 11): [7, 7, 7, 9, 7, 7], (7, 8, 9): [12, 11, 12]}

    def score(canvas):
        begin = canvas.index(specials.bos)
        todo = missing(targets[canvas[1:begin]], list(canvas[begin + 1 :]))
        insertion = torch.full((len(canvas), len(tokenizer)), NOTHING, dtype=torch.float64)
        for i, (gap, token) in enumerate(todo):
            insertion[begin + gap, token] = i % 3
        outcome = torch.full((2 if kind == "stop" else 9,), NOTHING, dtype=torch.float64)
        outcome[min(len(todo), len(outcome) - 1)] = 0.0
        return insertion, outcome

    model = table(score, kind=kind, classes=2 if kind == "stop" else 9)
    batch = collate("seq2seq", "predict", input_ids=list(targets.values()), prompt_ids=list(targets))
    prediction = predictor_of(model, joint=joint, max_new_tokens=10, **draw).predict(batch, seed=0, trace=True)
    assert answers(prediction) == list(targets.values())
    assert torch.equal(prediction.ids, batch["target_ids"])
    assert prediction.nfe.tolist() == [len(target) + 1 for target in targets.values()]
    assert [final(trace) for trace in prediction.traces] == list(targets.values())
    assert len(model.calls) == 7


def constant(p_stop, vocabulary):
    """The same for every canvas: all tokens alike, and this probability to stop."""
    outcome = torch.tensor([p_stop, 1 - p_stop], dtype=torch.float64).log()
    return lambda canvas: (torch.zeros(len(canvas), vocabulary, dtype=torch.float64), outcome)


@pytest.mark.parametrize(
    "p_stop, threshold, grows", [(0.5, 0.5, False), (0.49, 0.5, True), (0.89, 0.9, True), (0.91, 0.9, False)]
)
def test_a_row_ends_when_stopping_reaches_the_threshold(table, predictor_of, collate, tokenizer, p_stop, threshold, grows):
    batch = collate("lm", "predict", input_ids=[[]] * 3)
    predictor = predictor_of(table(constant(p_stop, len(tokenizer))), stop_threshold=threshold, max_new_tokens=4)
    prediction = predictor.predict(batch, seed=0)
    assert prediction.nfe.tolist() == [4 if grows else 1] * 3
    assert [len(row) for row in answers(prediction)] == [4 if grows else 0] * 3


def test_stop_temperature_divides_the_logits_of_the_head(table, predictor_of, collate, tokenizer):
    """p = 0.9 at temperature 2 is 3/4."""
    batch = collate("lm", "predict", input_ids=[[]])
    for threshold, grows in ((0.74, False), (0.76, True)):
        predictor = predictor_of(
            table(constant(0.9, len(tokenizer))), stop_threshold=threshold, stop_temperature=2.0, max_new_tokens=2
        )
        assert (len(answers(predictor.predict(batch, seed=0))[0]) == 2) == grows


def test_the_first_token_can_be_forced(table, predictor_of, collate, tokenizer):
    predictor = predictor_of(table(constant(1 - 1e-9, len(tokenizer))), force_first=True, max_new_tokens=5)
    prediction = predictor.predict(collate("lm", "predict", input_ids=[[]] * 3), seed=0)
    assert [len(row) for row in answers(prediction)] == [1, 1, 1]
    assert prediction.nfe.tolist() == [2, 2, 2]


def test_no_room_for_an_answer_is_refused(predictor_of, network):
    with pytest.raises(ConfigError, match="max_new_tokens=0 leaves no room"):
        predictor_of(network(), max_new_tokens=0)


def test_only_words_may_be_inserted(predictor_of, network, tokenizer, specials):
    words = predictor_of(network()).vocabulary.tolist()
    assert words == tokenizer.convert_tokens_to_ids(list("abcdef"))
    assert specials.eos not in words


class Moods(torch.nn.Module):
    """An outcome head that is as good as random from canvas to canvas: about one in four ends its row."""

    def forward(self, states):
        swing = 3 * torch.cos(50 * states[..., 0]) - 1.5
        return torch.stack([swing, torch.zeros_like(swing)], -1)


@pytest.fixture
def restless(network):
    """A network that inserts nearly anything anywhere, and ends its rows at different times."""
    model = network()
    model.outcome = Moods()
    with torch.no_grad():
        model.head.weight.mul_(0.2)
    return model


OPTIONS = {"max_new_tokens": 7, "stop_threshold": 0.6}


@pytest.fixture
def spied(restless, monkeypatch):
    """The network, and the canvases that it is shown at each evaluation."""
    shown, hidden = [], restless.hidden

    def spy(ids, mask):
        assert all(row.tolist() == sorted(row.tolist(), reverse=True) for row in mask)  # contiguous from the left
        shown.append([row[real].tolist() for row, real in zip(ids, mask, strict=True)])
        return hidden(ids, mask)

    monkeypatch.setattr(restless, "hidden", spy)
    return restless, shown


def many(rows, layout, times=4):
    return {name: column * times for name, column in rows[layout].items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("joint", [False, True])
def test_a_row_is_decoded_alone_as_in_any_batch(restless, predictor_of, collate, rows, layout, joint):
    predictor, columns = predictor_of(restless, joint=joint, **OPTIONS), many(rows, layout)
    whole = predictor.predict(collate(layout, "predict", **columns), seed=5, trace=True)
    assert len(set(whole.nfe.tolist())) > 2
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()
    for some in ([i] for i in range(8)), [order[:3], order[3:]]:
        for draws in some:
            part = {name: [column[i] for i in draws] for name, column in columns.items()}
            found = predictor.predict(collate(layout, "predict", draws=draws, **part), seed=5, trace=True)
            for i, answer, nfe, trace in zip(draws, answers(found), found.nfe.tolist(), found.traces, strict=True):
                assert answer == answers(whole)[i]
                assert nfe == whole.nfe[i]
                assert [event[:4] for event in trace.events] == [event[:4] for event in whole.traces[i].events]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("insert_in_prompt", [False, True])
def test_the_network_is_shown_what_the_trace_says_and_only_rows_that_grow(
    spied, predictor_of, collate, rows, specials, layout, insert_in_prompt
):
    """At each evaluation: exactly the rows that take part, each as its canvas would be built afresh."""
    model, shown = spied
    columns = many(rows, layout)
    batch = collate(layout, "predict", insert_in_prompt=insert_in_prompt, **columns)
    prediction = predictor_of(model, **OPTIONS).predict(batch, seed=5, trace=True)
    assert prediction.nfe.max() == len(shown)
    assert prediction.nfe.sum() == sum(len(canvases) for canvases in shown)
    for step, canvases in enumerate(shown):
        alive = [i for i in range(20) if prediction.nfe[i] > step]
        for i, canvas in zip(alive, canvases, strict=True):
            events = [event for event in prediction.traces[i].events if event.step < step]
            answer = list(prediction.traces[i].start)
            for event in events:
                answer.insert(event.position, event.token)
            prompt = columns["prompt_ids"][i] if layout == "seq2seq" else []
            if insert_in_prompt:  # what is inserted into a prompt is no part of the answer or its trace
                assert canvas[len(canvas) - len(answer) :] == answer
                assert missing(canvas[1 : len(canvas) - len(answer)], [*prompt, specials.bos]) is not None
            else:
                assert canvas == [specials.cls, *prompt, specials.bos, *answer]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_traces_replay_to_the_ids(restless, predictor_of, collate, rows, layout):
    for insert_in_prompt in (False, True):
        batch = collate(layout, "predict", insert_in_prompt=insert_in_prompt, **many(rows, layout))
        predictor = predictor_of(restless, **OPTIONS)
        prediction = predictor.predict(batch, seed=1, trace=True)
        assert [final(trace) for trace in prediction.traces] == answers(prediction)
        assert all(event.operation == "insert" and 0 < event.confidence <= 1 for t in prediction.traces for event in t.events)
        plain = predictor.predict(batch, seed=1)
        assert plain.traces is None
        assert torch.equal(plain.ids, prediction.ids)


def test_evaluations_are_insertions_and_the_look_that_ends_a_row(restless, predictor_of, collate, rows):
    batch = collate("seq2seq", "predict", **many(rows, "seq2seq"))
    prediction = predictor_of(restless, max_new_tokens=3, stop_threshold=0.6).predict(batch, seed=5)
    lengths = [len(row) for row in answers(prediction)]
    assert prediction.nfe.tolist() == [min(n + 1, 3) for n in lengths]
    assert max(lengths) == 3 > min(lengths)


def test_prompts_are_changed_only_when_that_is_asked_for(spied, predictor_of, collate, rows, specials):
    model, shown = spied
    columns = many(rows, "seq2seq")
    changed = {}
    for insert_in_prompt in (False, True):
        shown.clear()
        batch = collate("seq2seq", "predict", insert_in_prompt=insert_in_prompt, **columns)
        predictor_of(model, max_new_tokens=7, stop_threshold=1.0).predict(batch, seed=5)
        last = shown[-1]
        assert len(last) == 20
        prompts = [canvas[1 : canvas.index(specials.bos)] for canvas in last]
        for prompt, original in zip(prompts, columns["prompt_ids"], strict=True):
            missing(prompt, original)  # its own tokens are all there, in order
        changed[insert_in_prompt] = sum(p != o for p, o in zip(prompts, columns["prompt_ids"], strict=True))
        assert all(canvas[0] == specials.cls for canvas in last)
    assert changed[False] == 0
    assert changed[True] > 5


def test_infilling_keeps_what_is_visible_and_inserts_only_in_holes(restless, predictor_of, collate, specials):
    M = specials.mask
    prompts = [[7, M, M, 8, 9], [M, 7, M], [7, 7, M, 7], [M, M], [7, 8, M], [M, 8, 9]] * 5
    batch = collate("infill", "predict", input_ids=prompts, prompt_ids=prompts)
    prediction = predictor_of(restless, max_new_tokens=6, stop_threshold=0.95).predict(batch, seed=5, trace=True)
    grown = 0
    for prompt, trace, answer in zip(prompts, prediction.traces, answers(prediction), strict=True):
        visible = [token for token in prompt if token != M]
        assert list(trace.start) == visible
        tags = list(range(len(visible)))  # which visible token stands where; None for an inserted one
        for event in trace.events:
            tags.insert(event.position, None)
        assert [tag for tag in tags if tag is not None] == list(range(len(visible)))
        before = [prompt[:i].count(M) for i, token in enumerate(prompt) if token != M] + [prompt.count(M)]
        holed = {n for n in range(len(visible) + 1) if before[n] > (before[n - 1] if n else 0)}
        places = [sum(tag is not None for tag in tags[:i]) for i, tag in enumerate(tags) if tag is None]
        assert set(places) <= holed
        assert [token for token, tag in zip(answer, tags, strict=True) if tag is not None] == visible
        assert len(answer) == len(visible) + len(trace.events)
        grown += len(trace.events)
    assert grown > 30


def test_a_row_without_a_hole_is_left_alone(restless, predictor_of, collate, specials):
    whole = [[7, 8], [9]]
    predictor = predictor_of(restless, max_new_tokens=3, stop_threshold=1.0)
    none = predictor.predict(collate("infill", "predict", input_ids=whole, prompt_ids=whole), seed=0, trace=True)
    assert answers(none) == whole
    assert none.nfe.tolist() == [0, 0]
    mixed = [[7, 8], [9, specials.mask]]
    some = predictor.predict(collate("infill", "predict", input_ids=mixed, prompt_ids=mixed), seed=0, trace=True)
    assert answers(some)[0] == [7, 8]
    assert some.nfe.tolist() == [0, 3]
    assert [final(trace) for trace in some.traces] == answers(some)


def test_a_prompt_of_the_lm_layout_is_continued(restless, predictor_of, collate):
    batch = collate("lm", "predict", input_ids=[[]] * 2, prompt_ids=[[7, 8, 9], [10]])
    prediction = predictor_of(restless, max_new_tokens=4, stop_threshold=1.0).predict(batch, seed=0, trace=True)
    assert prediction.ids.shape == (2, 4)
    assert [final(trace) for trace in prediction.traces] == prediction.ids.tolist()


def test_the_batch_is_not_changed_and_nothing_needs_gradients(restless, predictor_of, collate, rows):
    batch = collate("seq2seq", "predict", **many(rows, "seq2seq"))
    before = {name: value.clone() for name, value in batch.items()}
    prediction = predictor_of(restless, **OPTIONS).predict(batch, seed=5, trace=True)
    assert set(batch) == set(before)
    assert all(torch.equal(batch[name], before[name]) for name in before)
    assert prediction.ids.dtype == prediction.nfe.dtype == torch.int64
    assert not prediction.ids.requires_grad


def test_seed_and_draw_choose_the_sample(restless, predictor_of, collate):
    predictor = predictor_of(restless, max_new_tokens=5, stop_threshold=1.0)

    def sample(seed, first):
        batch = collate("lm", "predict", draws=range(first, first + 4), input_ids=[[]] * 4)
        return str(predictor.predict(batch, seed=seed).ids.tolist())

    assert sample(0, 0) == sample(0, 0)
    assert len({sample(seed, first) for seed in (0, 1) for first in (0, 4)}) == 4


def test_insert_puts_a_value_into_each_row():
    x = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 0], [7, 8, 9, 0]])
    found = insert(x, torch.tensor([0, 2, 3]), torch.tensor([10, 11, 12]))
    assert found.tolist() == [[10, 1, 2, 3], [4, 5, 11, 6], [7, 8, 9, 12]]


def test_replayed_canvases_grow_by_one(restless, predictor_of, collate):
    prediction = predictor_of(restless, max_new_tokens=5, stop_threshold=1.0).predict(
        collate("lm", "predict", input_ids=[[]] * 3), seed=0, trace=True
    )
    for trace in prediction.traces:
        assert [len(canvas) for _, canvas in replay(trace)] == list(range(6))
        assert [event.step for event in trace.events] == list(range(5))
