"""What the tests of the family share: a tokenizer, a small network, checkpoint folders, and laws that can be enumerated."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from xlm_family_dream.collator import collator
from xlm_family_dream.config import CollatorConfig, ModelConfig
from xlm_family_dream.model import DreamModel

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
def network(tokenizer):
    """A network in float64 whose weights are large enough that every column it may see, and where that is, matters."""
    torch.manual_seed(0)
    cfg = ModelConfig(dim=32, layers=2, heads=4, kv_heads=2, hidden=48, rope_theta=100.0)
    model = DreamModel(cfg, len(tokenizer)).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(40 if name.startswith("embedding") else 12)
            elif name.endswith("bias"):
                parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope="session")
def qwen(tmp_path_factory):
    """A tiny Qwen2 with random weights, biases and norms that transformers wrote, and its folder."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    def make(*, shard="1GB", **options):
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        heads = {"num_key_value_heads": 2, "vocab_size": 16, "max_position_embeddings": 128}
        rope = {"rope_type": "default", "rope_theta": options.pop("theta", 500.0)}
        config = Qwen2Config(**{**sizes, **heads, "rope_parameters": rope, "rms_norm_eps": 1e-3, **options})
        torch.manual_seed(1)
        model = Qwen2ForCausalLM(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.normal_(std=0.4).add_(1.0 if "norm" in name else 0.0)
        folder = tmp_path_factory.mktemp("qwen")
        model.save_pretrained(folder, max_shard_size=shard)
        return model, folder

    return make


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
def infill(tokenizer, specials):
    """Sequences and where their holes are to a batch."""

    def make(rows, stage="train", *, draws=None, **options):
        texts = [list(text) for text, _ in rows]
        given = [[specials.mask if n in holes else token for n, token in enumerate(text)] for text, holes in rows]
        return _batch(tokenizer, "infill", stage, {"prompt_ids": given, "input_ids": texts}, draws, options)

    return make


@pytest.fixture
def packed(tokenizer, specials):
    """Rows of documents to a batch; every document is closed by EOS."""

    def make(rows, *, draws=None, **options):
        ids = [[token for document in row for token in (*document, specials.eos)] for row in rows]
        segments = [[n for n, document in enumerate(row) for _ in range(len(document) + 1)] for row in rows]
        columns = {"input_ids": ids, "segment_ids": segments}
        return _batch(tokenizer, "lm", "train", columns, draws, {"packed": True, **options})

    return make


class Law(torch.nn.Module):
    """A law over whole canvases, as a network each state of which holds the exact conditional of the next column.

    Args:
        weights: of each canvas, a tuple of ids whose first is visible; shorter canvases are padded on the right.
        noise: give special tokens that have no probability the largest logits, for a decoder that must not take them.
    """

    def __init__(self, specials, vocabulary, weights, *, noise):
        super().__init__()
        self.specials = specials
        self.width = max(map(len, weights))
        whole = sum(weights.values())
        self.strings = {canvas: weight / whole for canvas, weight in weights.items()}
        rows = [canvas + (specials.pad,) * (self.width - len(canvas)) for canvas in weights]
        self.canvases = torch.tensor(rows)
        self.law = torch.tensor([weight / whole for weight in weights.values()], dtype=torch.float64)
        self.one_hot = torch.nn.functional.one_hot(self.canvases, vocabulary).double()
        self.head = SimpleNamespace(weight=torch.eye(vocabulary, dtype=torch.float64))
        self.cfg = SimpleNamespace(causal=False)
        self.forbidden = list(specials.never_generated) if noise else []

    def hidden(self, input_ids, *, attention_mask, segment_ids=None, positions=None, caches=None):
        assert segment_ids is positions is caches is None
        assert torch.equal(attention_mask, input_ids != self.specials.pad)
        ids = torch.nn.functional.pad(input_ids, (0, self.width - input_ids.shape[1]), value=self.specials.pad)
        agree = (ids[:, None] == self.canvases) | (ids[:, None] == self.specials.mask)
        weight = agree.all(-1) * self.law
        assert (weight.sum(-1) > 0).all(), "the canvas is none of the law's"
        logits = torch.einsum("ns,slv->nlv", weight / weight.sum(-1, keepdim=True), self.one_hot).log().clamp(min=-1e4)
        logits[..., self.forbidden] = 50.0
        return logits.roll(-1, dims=1)[:, : input_ids.shape[1]]

    def conditional(self, canvas, column):
        """{token: probability} of one masked column, the strings added up one by one."""
        found = {}
        for string, weight in self.strings.items():
            if all(seen in (self.specials.mask, token) for seen, token in zip(canvas, string, strict=True)):
                found[string[column]] = found.get(string[column], 0.0) + weight
        whole = sum(found.values())
        return {token: weight / whole for token, weight in found.items()}


@pytest.fixture
def law(specials, tokenizer):
    def make(weights, *, noise=False):
        return Law(specials, len(tokenizer), weights, noise=noise)

    return make


@pytest.fixture
def strings():
    """Every string of so many words, at one of the given lengths, with a random weight."""

    def make(words, lengths, seed=0):
        rng = np.random.default_rng(seed)
        found = [s for n in lengths for s in itertools.product(range(7, 7 + words), repeat=n)]
        return dict(zip(found, (rng.dirichlet(np.full(len(found), 0.6)) + 1e-3).tolist(), strict=True))

    return make
