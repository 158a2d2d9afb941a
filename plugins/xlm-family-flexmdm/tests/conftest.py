"""What the tests of the family share: tokenizers, a small network, and a law whose every canvas is enumerated."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from xlm_family_flexmdm.collator import collator
from xlm_family_flexmdm.config import CollatorConfig, ModelConfig, ScheduleConfig
from xlm_family_flexmdm.gaps import Distribution, Expectation
from xlm_family_flexmdm.model import FlexmdmModel, Reading
from xlm_family_flexmdm.schedules import schedule

from xlm_core.canvas import Specials
from xlm_core.config import TokenizerConfig
from xlm_core.data.tokenizers import build

PAD, MASK, EOS, BOS, FIRST = 0, 2, 3, 4, 7
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
    """A network in float64 whose weights are so large that everything it may see, and the time, matters."""

    def make(**changes):
        torch.manual_seed(0)
        sizes = {"dim": 32, "layers": 2, "heads": 2, "dropout": 0.0, "rotary_dims": 8, "conditioning_dim": 16, "max_gap": 6}
        model = FlexmdmModel(ModelConfig(**(sizes | changes)), len(tokenizer), specials).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.25)
            # So that a gap lacks two or three tokens.
            model.length.outer.weight.mul_(0.1)
            model.length.outer.bias.copy_(
                torch.tensor([-0.5, 3.0] if model.length.kind == "expectation" else [-2.0, *[0.0] * model.length.unit])
            )
        return model

    return make


@pytest.fixture
def network(build_network):
    return build_network()


@pytest.fixture
def batch_of(tokenizer):
    """Examples as columns to a batch: batch_of("seq2seq", "train", prompt_ids=[...], input_ids=[...], length=6)."""

    def make(layout, stage="train", *, draws=None, words=tokenizer, length=6, **options):
        columns = {name: options.pop(name) for name in ("prompt_ids", "input_ids") if name in options}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        examples = [{"draw": draw, **row} for draw, row in zip(draws or range(len(rows)), rows, strict=True)]
        return collator(CollatorConfig(length=length, **options), words, layout, stage)(examples)

    return make


class Law:
    """A law over strings of at most `longest` words, as a network whose predictions are its exact conditionals.

    A canvas x at time t comes from a string s and a choice of which of its tokens are there; with r = 1 - a_ins(t), each
    such pair has a weight in proportion to p(s) r^(tokens of s that are missing): everything else is the same for all pairs.

    Args:
        strings: their probabilities. A string is a tuple of word numbers from 0.
        words: V.
        head: expectation, or distribution of the number of missing tokens in a gap.
        noise: how large the logits of special tokens are, which the decoder must not take.
    """

    HIDDEN = -1

    def __init__(
        self, strings, words, specials, vocabulary, *, insertion="linear", unmasking="linear", head="expectation", noise=None
    ):
        self.strings, self.words, self.specials, self.length_head = strings, words, specials, head
        self.insertion, self.unmasking = schedule(ScheduleConfig(insertion)), schedule(ScheduleConfig(unmasking))
        self.longest = max(map(len, strings))
        self.head = SimpleNamespace(weight=torch.eye(vocabulary, dtype=torch.float64))
        self.training = False
        self.calls = []
        self._noise = noise
        self._tables()

    def _tables(self):
        """Sums over pairs, for every canvas, by how many tokens are missing in all: their mass; that of each token at each
        column; that of each number missing in each gap."""
        n, digits = self.longest, self.words + 2
        self.mass = np.zeros((digits**n, n + 1))
        self.token = np.zeros((digits**n, n + 1, n, self.words))
        self.gap = np.zeros((digits**n, n + 1, n + 1, n + 1))
        for string, probability in self.strings.items():
            for size in range(len(string) + 1):
                for places in itertools.combinations(range(len(string)), size):
                    missing = len(string) - size
                    ends = (-1, *places, len(string))
                    for hidden in itertools.product((True, False), repeat=size):
                        canvas = tuple(self.HIDDEN if h else string[p] for h, p in zip(hidden, places, strict=True))
                        code = self.code(canvas)
                        self.mass[code, missing] += probability
                        for column, place in enumerate(places):
                            self.token[code, missing, column, string[place]] += probability
                        for column, (before, here) in enumerate(itertools.pairwise(ends)):
                            self.gap[code, missing, column, here - before - 1] += probability

    def code(self, canvas):
        return sum((word + 2) * (self.words + 2) ** place for place, word in enumerate(canvas))

    def at(self, canvas, time):
        """Token probabilities (columns, words) and gap probabilities (columns + 1, longest + 1) at a time. A canvas that is not
        possible has uniform tokens, and nothing missing."""
        code = self.code(canvas)
        columns = len(canvas)
        if columns > self.longest or not self.mass[code].any():
            return np.full((columns, self.words), 1 / self.words), np.eye(self.longest + 1)[[0] * (columns + 1)]
        remaining = float(self.insertion.remaining(torch.tensor(time, dtype=torch.float64)))
        powers = remaining ** np.arange(self.longest + 1)
        mass = powers @ self.mass[code]
        if not mass:  # at time 1, where nothing can be missing
            return np.full((columns, self.words), 1 / self.words), np.eye(self.longest + 1)[[0] * (columns + 1)]
        token = np.tensordot(powers, self.token[code], 1)[:columns] / mass
        return token, np.tensordot(powers, self.gap[code], 1)[: columns + 1] / mass

    def read(self, input_ids, time, attention_mask):
        self.calls.append((input_ids, time))
        ids = input_ids.masked_fill(~attention_mask, PAD)
        rows, which = torch.cat([ids, (time[:, None] * 2**20).long()], 1).unique(dim=0, return_inverse=True)
        first = torch.zeros(len(rows), dtype=torch.long).scatter_(0, which, torch.arange(len(ids)))
        width, vocabulary = ids.shape[1], len(self.head.weight)
        logits = torch.full((len(rows), width, vocabulary), -690.0, dtype=torch.float64)
        law = torch.zeros(len(rows), width, self.longest + 1, dtype=torch.float64)
        law[..., 0] = 1
        for row, place in enumerate(first.tolist()):
            content = [token for token in ids[place].tolist() if token >= FIRST or token == MASK]
            canvas = tuple(self.HIDDEN if token == MASK else token - FIRST for token in content)
            token, gap = self.at(canvas, float(time[place]))
            logits[row, 1 : len(canvas) + 1, FIRST:] = torch.from_numpy(token).log().clamp(min=-690)
            law[row, 1 : len(canvas) + 2] = torch.from_numpy(gap)
        if self._noise is not None:
            logits[..., :FIRST] = self._noise
        return Reading(logits[which], self._gaps(law[which]))

    def _gaps(self, law):
        if self.length_head == "distribution":
            return Distribution(law.log().clamp(min=-690))
        return Expectation((law @ torch.arange(law.shape[-1], dtype=law.dtype)).log().clamp(min=-690))


def all_strings(longest, words=2, seed=0):
    """Every string of at most `longest` words, with probabilities that are far from equal."""
    strings = [text for n in range(longest + 1) for text in itertools.product(range(words), repeat=n)]
    return dict(zip(strings, np.random.default_rng(seed).dirichlet([0.7] * len(strings)).tolist(), strict=True))


@pytest.fixture
def law(two_words):
    """A law over all strings of at most `longest` words out of two, or over those that are given."""

    def make(strings=None, longest=3, **options):
        return Law(strings or all_strings(longest), 2, Specials.of(two_words), len(two_words), **options)

    return make
