"""Where an answer ends: at EOS, or in front of a stop string."""

from __future__ import annotations

import pytest
import torch
from xlm_family_dream.config import PredictorConfig
from xlm_family_dream.predictor import DreamPredictor

from xlm_core.config import TokenizerConfig
from xlm_core.data.tokenizers import build
from xlm_core.trace import final

P, M, E = 0, 2, 3


def _written(prediction):
    return [[token for token in row if token] for row in prediction.ids.tolist()]


def _sure_of_eos(network):
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.weight[E] = 1
        network.final_norm.weight.zero_()
        network.final_norm.weight[0] = 1e-3


@pytest.mark.parametrize("close", [True, False])
def test_masks_behind_eos_are_not_evaluated(network, tokenizer, lm, close):
    """A network that is sure of EOS everywhere ends a row of 10 masks as soon as the leftmost column is written."""
    original = network.hidden
    network.hidden = lambda ids, **options: torch.ones_like(original(ids, **options))
    _sure_of_eos(network)
    decoder = DreamPredictor(PredictorConfig(order="random", close=close), network, tokenizer)
    prediction = decoder.predict(lm([[]] * 60, "predict", length=9), seed=0, trace=True)
    assert (prediction.ids == P).all()
    assert all(trace.start == () and trace.events == [] for trace in prediction.traces)
    mean = prediction.nfe.double().mean()
    # Closed, records in a random order of 10: 2.93 on average. Open, until the leftmost is drawn: 5.5.
    assert abs(mean - (2.93 if close else 5.5)) < 1.3
    from_the_left = DreamPredictor(PredictorConfig(block_size=1, close=close), network, tokenizer)
    first = from_the_left.predict(lm([[]], "predict", length=9), seed=0)
    assert first.nfe.tolist() == [1]


@pytest.fixture(scope="session")
def letters():
    """One id a character: a is 7."""
    return build(TokenizerConfig(kind="char", alphabet="abcdef"))


def _scripted(network, text):
    """A network that is sure of one text, whatever the canvas, the more so the farther left a column is."""

    def hidden(ids, *, positions=None, caches=None, **_):
        columns = torch.arange(ids.shape[1]).expand(ids.shape) if positions is None else positions
        target = torch.tensor([*text, E, E])[columns.clamp(max=len(text))]
        states = torch.nn.functional.one_hot(target, 13).double() * (20 - columns[..., None] * 0.1)
        return torch.nn.functional.pad(states, (0, 19))

    network.hidden = hidden
    with torch.no_grad():
        network.head.weight.copy_(torch.eye(13, 32))


@pytest.mark.parametrize("options", [{}, {"steps": 2}, {"block_size": 2}, {"order": "random"}], ids=str)
@pytest.mark.parametrize(
    ("stop", "answer"),
    [(["cd"], "ab"), (["ab"], ""), (["a"], ""), (["f"], "abcde"), (["de", "cd"], "ab"), (["x"], "abcdef"), (["ba"], "abcdef")],
)
def test_an_answer_ends_before_the_first_stop_string(network, letters, lm, options, stop, answer):
    """One at its very beginning too. Nothing of it is left, nor a mask of a block that was not reached."""
    _scripted(network, range(7, 13))
    decoder = DreamPredictor(PredictorConfig(stop=stop, **options), network, letters)
    prediction = decoder.predict(lm([[], [], []], "predict", length=7), seed=0, trace=True)
    for row, trace in zip(_written(prediction), prediction.traces, strict=True):
        assert letters.decode(row) == answer
        assert list(final(trace)) == row


def test_a_stop_string_saves_what_is_behind_it(network, letters, lm):
    _scripted(network, [7, 8, 9, 10] * 5)
    batch = lm([[]], "predict", length=30)
    for stop, count in (([], 21), (["cda"], 5), (["a"], 1)):
        decoder = DreamPredictor(PredictorConfig(stop=stop, order="top_prob"), network, letters)
        assert decoder.predict(batch, seed=0).nfe.tolist() == [count]


def test_a_stop_string_in_a_prompt_ends_nothing(network, letters, lm):
    _scripted(network, range(7, 13))
    decoder = DreamPredictor(PredictorConfig(stop=["ab", "bc"]), network, letters)
    prediction = decoder.predict(lm([[7, 8]], "predict", length=7), seed=0)
    assert letters.decode(_written(prediction)[0]) == "cdef"


def test_text_is_continued_and_its_beginning_left_alone(network, tokenizer, lm):
    prompts = [[7, 8, 9], [], [3, 3, 12, 12, 12, 12, 12, 12]]
    prediction = DreamPredictor(PredictorConfig(), network, tokenizer).predict(
        lm(prompts, "predict", length=9), seed=0, trace=True
    )
    for row, trace, prompt in zip(_written(prediction), prediction.traces, prompts, strict=True):
        assert len(row) <= 10 - len(prompt)
        assert trace.start == (M,) * len(row)
        assert list(final(trace)) == row
