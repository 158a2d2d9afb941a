"""What the tests of the family share: a tokenizer, a small network, and laws that can be enumerated."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from xlm_family_arlm.collator import collator
from xlm_family_arlm.config import CollatorConfig, ModelConfig
from xlm_family_arlm.model import ArlmModel

from xlm_core.canvas import Specials
from xlm_core.config import TokenizerConfig
from xlm_core.data.tokenizers import build


@pytest.fixture(scope="session")
def tokenizer():
    """Seven special tokens at 0..6, the words a..f at 7..12."""
    return build(TokenizerConfig(kind="words", words=list("abcdef")))


@pytest.fixture(scope="session")
def specials(tokenizer):
    return Specials.of(tokenizer)


@pytest.fixture
def network(tokenizer, specials):
    """A network in float64 whose weights are large enough that every column it may see, and its absolute place, matter."""
    torch.manual_seed(3)
    cfg = ModelConfig(dim=32, layers=2, heads=2, dropout=0.0, rotary_dims=8, learned_positions=128)
    model = ArlmModel(cfg, len(tokenizer), specials.pad).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model


def _batch(tokenizer, layout, stage, columns, draws, options):
    names = list(columns)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    examples = [{"draw": draw, **row} for draw, row in zip(draws or range(len(rows)), rows, strict=True)]
    return collator(CollatorConfig(**options), tokenizer, layout, stage)(examples)


@pytest.fixture
def lm(tokenizer):
    """Texts to a batch. In `predict` a text is what the row begins with."""

    def make(texts, stage="train", *, draws=None, **options):
        name = "prompt_ids" if stage == "predict" else "input_ids"
        return _batch(tokenizer, "lm", stage, {name: texts}, draws, options)

    return make


@pytest.fixture
def seq2seq(tokenizer):
    """(prompt, answer) pairs to a batch."""

    def make(pairs, stage="train", *, draws=None, **options):
        prompts, answers = zip(*pairs, strict=True)
        return _batch(tokenizer, "seq2seq", stage, {"prompt_ids": prompts, "input_ids": answers}, draws, options)

    return make


@pytest.fixture
def packed(tokenizer, specials):
    """Rows of documents to a batch; every document is closed by EOS, except those in `open_rows` that end their row."""

    def make(rows, *, open_rows=(), **options):
        ids = [[token for document in row for token in (*document, specials.eos)] for row in rows]
        segments = [[n for n, document in enumerate(row) for _ in range(len(document) + 1)] for row in rows]
        for row in open_rows:
            ids[row].pop(), segments[row].pop()
        return _batch(tokenizer, "lm", "train", {"input_ids": ids, "segment_ids": segments}, None, options)

    return make


class Law(torch.nn.Module):
    """A law over all strings of at most `longest` words, as a network whose logits are its exact conditionals.

    It walks a tree of prefixes. There are two trees: one for rows that begin with BOS, one for those with a prompt before it.
    Special tokens other than EOS have probability 0; `noise` gives them the largest logits instead, for a decoder that must not
    take them.
    """

    def __init__(self, specials, vocabulary, words, longest, *, noise=False):
        super().__init__()
        rng = np.random.default_rng(0)
        self.words, self.longest, self.eos = list(words), longest, specials.eos
        start, prompted, *roots = range(4)
        self._nodes = itertools.count(4)
        self.conditionals = {}
        children = {start: dict.fromkeys(self.words, prompted), prompted: {specials.bos: roots[1]}}
        self.laws = [self._grow(root, (), rng, children) for root in roots]
        nodes = next(self._nodes)
        self.child = torch.arange(nodes)[:, None].repeat(1, vocabulary)
        self.child[:, specials.bos] = roots[0]
        self.logits = torch.full((nodes, vocabulary), -1e4, dtype=torch.float64)
        for node, row in children.items():
            for token, child in row.items():
                self.child[node, token] = child
        for node, row in self.conditionals.items():
            for token, probability in row.items():
                self.logits[node, token] = float(np.log(probability))
        if noise:
            self.logits[:, list(specials.never_generated)] = 50.0
        self.head = SimpleNamespace(weight=torch.eye(vocabulary, dtype=torch.float64))

    def _grow(self, node, prefix, rng, children):
        """The probability of every string below a node, and the node's conditionals."""
        last = len(prefix) == self.longest
        shares = [1.0] if last else rng.dirichlet([1.0] * (len(self.words) + 1))
        self.conditionals[node] = dict(zip([self.eos, *([] if last else self.words)], shares, strict=True))
        children[node], strings = {}, {prefix: float(shares[0])}
        for word, share in zip([] if last else self.words, shares[1:], strict=True):
            child = children[node][word] = next(self._nodes)
            below = self._grow(child, (*prefix, word), rng, children)
            strings |= {string: float(share) * probability for string, probability in below.items()}
        return strings

    def new_caches(self, rows, columns):
        return _Node(rows)

    def hidden(self, input_ids, *, attention_mask=None, segment_ids=None, positions=None, caches=None):
        memory = caches or _Node(len(input_ids))
        read = []
        for column in input_ids.T:
            memory.node = self.child[memory.node, column]
            read.append(memory.node)
        return self.logits[torch.stack(read, 1)]


class _Node:
    """Where each row is in the tree: all that this network has to remember."""

    def __init__(self, rows):
        self.node = torch.zeros(rows, dtype=torch.long)

    def keep(self, rows):
        self.node = self.node[rows]


@pytest.fixture
def law(specials, tokenizer):
    def make(words=3, longest=3, *, noise=False):
        return Law(specials, len(tokenizer), range(7, 7 + words), longest, noise=noise)

    return make
