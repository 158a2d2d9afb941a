"""The decoder against one that is written out: one row at a time, without padding, cache or batch."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from xlm_family_arlm.config import PredictorConfig
from xlm_family_arlm.predictor import ArlmPredictor

from xlm_core.config import SamplingConfig
from xlm_core.errors import ConfigError
from xlm_core.sampling.truncation import truncate
from xlm_core.trace import final

GREEDY = SamplingConfig(temperature=0.0)
PROMPTS = [[7, 8, 9, 12], [7], [], [10, 10], [3, 8, 3], [11, 9, 12, 8, 8], [9], [12, 11, 10]]
"""3 is EOS."""


@pytest.fixture
def predictor(network, tokenizer):
    def make(room=12, **options):
        return ArlmPredictor(PredictorConfig(max_new_tokens=room, **options), network, tokenizer)

    return make


@pytest.fixture
def batch(seq2seq):
    return seq2seq([(prompt, []) for prompt in PROMPTS], "predict")


def _written(prediction):
    return [[token for token in row if token] for row in prediction.ids.tolist()]


def _spell_out(network, specials, prompt, room):
    """Greedy decoding by definition; also the probability of each choice, and how often the network was asked."""
    ids, probabilities = [*prompt, specials.bos], []
    for step in range(room):
        logits = network(torch.tensor([ids]))[0, -1]
        logits[list(specials.never_generated)] = -torch.inf
        token = int(logits.argmax())
        if token == specials.eos:
            return ids[len(prompt) + 1 :], probabilities, step + 1
        probabilities.append(float(logits.softmax(-1)[token]))
        ids.append(token)
    return ids[len(prompt) + 1 :], probabilities, room


@torch.no_grad()
def test_greedy_answers_are_those_of_the_definition(network, predictor, specials, batch):
    prediction = predictor(token=GREEDY).predict(batch, seed=0, trace=True)
    truth = [_spell_out(network, specials, prompt, 12) for prompt in PROMPTS]
    assert len({len(answer) for answer, _, _ in truth}) > 2, "rows should end at different steps"
    assert _written(prediction) == [answer for answer, _, _ in truth]
    assert prediction.nfe.tolist() == [calls for _, _, calls in truth]
    for trace, (answer, probabilities, _) in zip(prediction.traces, truth, strict=True):
        assert list(final(trace)) == answer
        assert [(e.step, e.position, e.operation) for e in trace.events] == [(n, n, "append") for n in range(len(answer))]
        assert [e.confidence for e in trace.events] == pytest.approx(probabilities, rel=1e-5)


@pytest.mark.parametrize("token", [SamplingConfig(), SamplingConfig(temperature=0.7, top_k=4, top_p=0.8)], ids=str)
def test_the_cache_changes_nothing(predictor, batch, token):
    with_cache, without = (predictor(token=token, use_cache=use).predict(batch, seed=3, trace=True) for use in (True, False))
    assert torch.equal(with_cache.ids, without.ids)
    assert torch.equal(with_cache.nfe, without.nfe)
    for one, other in zip(with_cache.traces, without.traces, strict=True):
        assert [e.confidence for e in one.events] == pytest.approx([e.confidence for e in other.events], rel=1e-4)


def test_a_row_does_not_depend_on_the_rows_beside_it(predictor, seq2seq, batch):
    together = _written(predictor().predict(batch, seed=3))
    alone = [
        _written(predictor().predict(seq2seq([(prompt, [])], "predict", draws=[n]), seed=3))[0]
        for n, prompt in enumerate(PROMPTS)
    ]
    assert together == alone
    order = [5, 2, 7, 0]
    some = seq2seq([(PROMPTS[n], []) for n in order], "predict", draws=order)
    assert _written(predictor().predict(some, seed=3)) == [together[n] for n in order]


def test_choices_come_from_the_seed_and_the_draw(predictor, lm):
    same = lm([[]] * 4, "predict", draws=[5, 5, 6, 6])
    first, second, third, fourth = _written(predictor().predict(same, seed=0))
    assert first == second != third == fourth
    assert _written(predictor().predict(same, seed=0)) == [first, second, third, fourth]
    assert _written(predictor().predict(same, seed=1))[0] != first


def test_evaluations_are_counted_and_ended_rows_are_not_evaluated(network, predictor, batch, monkeypatch):
    calls = []
    original = network.hidden
    monkeypatch.setattr(network, "hidden", lambda ids, **kw: calls.append(ids.shape) or original(ids, **kw))
    nfe = predictor().predict(batch, seed=3).nfe
    assert len(calls) == nfe.max()
    assert [rows for rows, _ in calls] == [int((nfe > step).sum()) for step in range(len(calls))]
    assert [columns for _, columns in calls] == [batch["input_ids"].shape[1]] + [1] * (len(calls) - 1)
    assert len(set(nfe.tolist())) > 2


def test_no_special_token_but_eos_is_written_and_answers_are_padded_on_the_right(network, predictor, specials, lm):
    with torch.no_grad():
        network.head.weight[list(specials.never_generated)] *= 50
    prediction = predictor().predict(lm([[]] * 300, "predict"), seed=0)
    lengths = (prediction.ids != specials.pad).sum(-1)
    assert set(prediction.ids.unique().tolist()) == {specials.pad, *range(7, 13)}
    columns = torch.arange(prediction.ids.shape[1])
    assert torch.equal(prediction.ids != specials.pad, columns < lengths[:, None])
    ended = lengths < 12
    assert ended.any()
    assert torch.equal(prediction.nfe, lengths + ended)


def test_eos_in_a_prompt_ends_nothing(network, predictor, specials, seq2seq):
    with torch.no_grad():
        network.head.weight[specials.eos] = 0
        network.head.weight[7:] += 1
        network.final_norm.bias += 1
    prediction = predictor(room=5, token=GREEDY).predict(seq2seq([([3, 3], []), ([7], [])], "predict"), seed=0)
    assert prediction.ids.shape == (2, 5)
    assert (prediction.ids >= 7).all()


def test_the_most_tokens_are_written_when_there_is_no_eos(network, predictor, specials, lm):
    with torch.no_grad():
        network.head.weight.zero_()
    for room in (1, 4):
        prediction = predictor(room=room, token=SamplingConfig(top_k=7)).predict(lm([[]] * 50, "predict"), seed=0)
        assert prediction.ids.shape == (50, room)
        assert prediction.nfe.max() == room
    with pytest.raises(ConfigError, match="max_new_tokens=0"):
        predictor(room=0)


@torch.no_grad()
def test_text_is_continued(network, predictor, specials, lm):
    texts = [[7, 8, 9], [], [12]]
    prediction = predictor(token=GREEDY).predict(lm(texts, "predict"), seed=0)
    for row, text in zip(_written(prediction), texts, strict=True):
        ids = [specials.bos, *text]
        for token in row:
            logits = network(torch.tensor([ids]))[0, -1]
            logits[list(specials.never_generated)] = -torch.inf
            assert token == int(logits.argmax())
            ids.append(token)


def test_padding_further_to_the_left_changes_nothing(predictor, batch):
    wide = {
        **batch,
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (70, 0)),
        "attention_mask": torch.nn.functional.pad(batch["attention_mask"], (70, 0)),
    }
    assert _written(predictor().predict(wide, seed=3)) == _written(predictor().predict(batch, seed=3))


def test_a_batch_is_not_edited(predictor, batch):
    before = copy.deepcopy(batch)
    predictor().predict(batch, seed=0, trace=True)
    assert all(torch.equal(batch[name], before[name]) for name in before)
    assert batch.keys() == before.keys()


def test_the_cache_holds_in_bfloat16_autocast(network, tokenizer, batch):
    single = copy.deepcopy(network).float()
    with torch.autocast("cpu", torch.bfloat16):
        caches = single.new_caches(2, 4)
        single.hidden(batch["input_ids"][:2, -3:], caches=caches)
        one, other = (
            ArlmPredictor(PredictorConfig(max_new_tokens=8, token=GREEDY, use_cache=use), single, tokenizer).predict(
                batch, seed=0
            )
            for use in (True, False)
        )
    assert caches.layers[0].append(*torch.zeros(2, 2, 2, 1, 16))[0].dtype == torch.bfloat16
    agreement = [a == b for a, b in zip(_written(one), _written(other), strict=True)]
    assert sum(agreement) >= len(agreement) - 1


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 5, None), (1.0, None, 0.3), (0.7, None, 0.9), (1.3, 20, 0.8), (1.0, 40, 1.0)]
)
def test_truncation_is_that_of_hugging_face(temperature, top_k, top_p):
    logits = torch.randn(1000, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    theirs = TemperatureLogitsWarper(temperature)(None, logits)
    for warper in ([TopKLogitsWarper(top_k)] if top_k else []) + ([TopPLogitsWarper(top_p)] if top_p else []):
        theirs = warper(None, theirs)
    torch.testing.assert_close(truncate(logits / temperature, top_k, top_p), theirs)
