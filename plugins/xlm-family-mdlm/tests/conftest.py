"""What the tests of the family share: tokenizers, a small network, and laws that can be enumerated."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from xlm_family_mdlm.collator import collator
from xlm_family_mdlm.config import CollatorConfig, ModelConfig
from xlm_family_mdlm.model import MdlmModel

from xlm_core.canvas import Specials
from xlm_core.config import TokenizerConfig
from xlm_core.data.tokenizers import build

PAD, MASK, EOS, FIRST = 0, 2, 3, 7
"""Ids in every tokenizer here; the words begin at FIRST."""


@pytest.fixture(scope="session")
def tokenizer():
    """Seven special tokens at 0..6, the words a..f at 7..12."""
    return build(TokenizerConfig(kind="words", words=list("abcdef")))


@pytest.fixture(scope="session")
def two_words():
    return build(TokenizerConfig(kind="words", words=list("ab")))


@pytest.fixture(scope="session")
def specials(tokenizer):
    return Specials.of(tokenizer)


@pytest.fixture
def build_network(tokenizer, specials):
    """A network in float64 whose weights are so large that everything it may see matters."""

    def make(**changes):
        torch.manual_seed(0)
        sizes = {"dim": 32, "layers": 2, "heads": 2, "dropout": 0.0, "rotary_dims": 8, "conditioning_dim": 16}
        model = MdlmModel(ModelConfig(**(sizes | changes)), len(tokenizer), specials).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.25)
        return model

    return make


@pytest.fixture
def network(build_network):
    return build_network()


@pytest.fixture
def batch_of(tokenizer):
    """Examples as columns to a batch: batch_of("seq2seq", "train", prompt_ids=[...], input_ids=[...], length=6)."""

    def make(layout, stage="train", *, draws=None, words=tokenizer, length=6, **options):
        names = ("prompt_ids", "input_ids", "segment_ids")
        columns = {name: options.pop(name) for name in names if name in options}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        examples = [{"draw": draw, **row} for draw, row in zip(draws or range(len(rows)), rows, strict=True)]
        return collator(CollatorConfig(length=length, **options), words, layout, stage)(examples)

    return make


class Law(torch.nn.Module):
    """A law over canvases of L columns, as a network whose predictions are its exact conditionals.

    Args:
        canvases: (S, L) int64, all that are possible.
        probabilities: (S,) float64.
        vocabulary: V.
        crooked: how far its logits are from the truth: by pseudo-random amounts that depend on all that is visible.
        timed: how much they depend on the noise level besides.
    """

    def __init__(self, canvases, probabilities, vocabulary, specials, *, crooked=0.0, timed=0.0):
        super().__init__()
        self.canvases, self.probabilities = canvases, torch.as_tensor(probabilities, dtype=torch.float64)
        self.specials, self.crooked, self.timed = specials, crooked, timed
        self.head = SimpleNamespace(weight=torch.eye(vocabulary, dtype=torch.float64))

    def texts(self):
        """The probability of every text."""
        rows = zip(self.canvases.tolist(), self.probabilities.tolist(), strict=True)
        return {tuple(token for token in row if token >= FIRST): probability for row, probability in rows}

    def hidden(self, input_ids, valid=None, noise=None, *, segment_ids=None, positions=None):
        logits = self._logits(input_ids[:, 1:], valid[:, 1:], noise)
        return torch.nn.functional.pad(logits, (0, 0, 1, 0))  # for BOS

    def _logits(self, input_ids, valid, noise):
        width, whole = input_ids.shape[1], self.canvases.shape[1]
        ids = torch.nn.functional.pad(input_ids, (0, whole - width), value=MASK)
        seen = torch.nn.functional.pad(valid, (0, whole - width), value=False)
        ids = torch.where(seen, ids, MASK)
        ends = seen.sum(-1, keepdim=True)  # what is behind the readable columns is padding
        ids = ids.scatter(1, ends.clamp(max=whole - 1), torch.where(ends < whole, PAD, ids[:, -1:]))
        fits = ((ids[:, None] == self.canvases) | (ids == MASK)[:, None]).all(-1).double() * self.probabilities
        one_hot = torch.nn.functional.one_hot(self.canvases, len(self.head.weight)).double()
        logits = torch.einsum("bs,slv->blv", fits, one_hot).log().clamp(min=-1e3)
        logits = torch.where((fits.sum(-1) > 0)[:, None, None], logits, 0.0)
        key = (ids * 7 ** torch.arange(whole)).sum(-1)[:, None, None].double()
        place = torch.arange(logits[0].numel()).view(logits.shape[1:])
        logits = logits + self.crooked * torch.sin(key * 1.7 + place * 2.9)
        if self.timed:
            logits = logits + self.timed * noise[:, None, None] * torch.cos(place * 3.7)
        return logits[:, :width]


@pytest.fixture
def law_of(two_words):
    """A law over canvases that are listed with their probabilities."""

    def make(canvases, probabilities, **options):
        return Law(torch.tensor(canvases), probabilities, len(two_words), Specials.of(two_words), **options)

    return make


@pytest.fixture
def law(law_of):
    """A law over all texts of at most `longest` words out of two, as canvases with EOS and padding."""

    def make(longest=3, **options):
        texts = [text for n in range(longest + 1) for text in itertools.product((FIRST, FIRST + 1), repeat=n)]
        canvases = [[*text, EOS, *[PAD] * (longest - len(text))] for text in texts]
        return law_of(canvases, np.random.default_rng(0).dirichlet([0.7] * len(texts)), **options)

    return make
