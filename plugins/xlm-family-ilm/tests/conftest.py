"""What the tests of the family share: a tokenizer, a small network, batches, and networks that are tables."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from xlm_family_ilm.collator import collator
from xlm_family_ilm.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig
from xlm_family_ilm.loss import IlmLoss
from xlm_family_ilm.model import IlmModel
from xlm_family_ilm.predictor import IlmPredictor

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
    """Networks in float64 whose weights are so large that every column they may see matters."""

    def make(outcome="stop", **changes):
        torch.manual_seed(0)
        cfg = ModelConfig(**{"dim": 32, "layers": 2, "heads": 2, "dropout": 0.0, "final_norm": True} | changes, outcome=outcome)
        model = IlmModel(cfg, len(tokenizer), specials.pad).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(8)
        return model

    return make


@pytest.fixture
def collate(tokenizer):
    """Columns of rows to a batch, as `collate("lm", "train", input_ids=[...])`."""

    def make(layout, stage="train", *, draws=None, input_ids, prompt_ids=None, **options):
        prompts = [{}] * len(input_ids) if prompt_ids is None else [{"prompt_ids": ids} for ids in prompt_ids]
        rows = zip(draws or range(len(input_ids)), input_ids, prompts, strict=True)
        examples = [{"draw": draw, "input_ids": ids, **prompt} for draw, ids, prompt in rows]
        return collator(CollatorConfig(**options), tokenizer, layout, stage)(examples)

    return make


@pytest.fixture
def loss_of():
    return lambda model, **options: IlmLoss(LossConfig(**options), model)


@pytest.fixture
def predictor_of(tokenizer):
    return lambda model, **options: IlmPredictor(PredictorConfig(**options), model, tokenizer)


@pytest.fixture(scope="session")
def rows():
    """Examples of every layout, of different lengths, with repeated tokens and with nothing at all."""
    texts = [[7, 8, 9, 10], [7, 7, 7], [12], [], [8, 9, 8, 9, 8]]
    prompts = [[10, 11], [12], [], [7, 7, 7, 7], [9]]
    holes = [[7, 2, 2, 10], [2, 7, 2], [2], [], [8, 9, 8, 9, 8]]
    return {
        "lm": {"input_ids": texts},
        "seq2seq": {"input_ids": texts, "prompt_ids": prompts},
        "infill": {"input_ids": texts, "prompt_ids": holes},
    }


@pytest.fixture
def choose(monkeypatch):
    """Let a test choose what is dropped: subsets of the free tokens, counted from 0."""

    def force(subsets):
        def subset(draw, free, seed):
            order = (free.long().cumsum(-1) - 1).masked_fill(~free, -1)
            chosen = [torch.isin(row, torch.tensor(sorted(s), dtype=row.dtype)) for row, s in zip(order, subsets, strict=True)]
            return torch.stack(chosen) & free

        monkeypatch.setattr("xlm_family_ilm.collator.random_subset", subset)

    return force


class Table(torch.nn.Module):
    """A network whose outputs are written down for each canvas: the states are the logits themselves.

    Args:
        score: a canvas (ids without padding) to its insertion logits (length, V) and its outcome logits (C,).
        vocabulary: V.
        kind: `stop` or `length`.
        classes: C.
    """

    PAD_LOGIT = 60.0
    """On padding: whoever reads it is wrong, visibly."""

    def __init__(self, score, vocabulary, kind="stop", classes=2):
        super().__init__()
        self.score, self.outcome_kind, self.vocabulary = score, kind, vocabulary
        self.head = SimpleNamespace(weight=torch.eye(vocabulary, vocabulary + classes, dtype=torch.float64))
        self.outcome = Outcome(vocabulary, classes)
        self.calls = []
        """The canvases of each evaluation."""

    def hidden(self, input_ids, attention_mask):
        width = input_ids.shape[1]
        keyed = input_ids.masked_fill(~attention_mask, -1)
        different, which = keyed.unique(dim=0, return_inverse=True)
        canvases = [[token for token in row if token >= 0] for row in different.tolist()]
        self.calls.append([canvases[i] for i in which.tolist()])
        states = []
        for canvas in canvases:
            insertion, outcome = self.score(tuple(canvas))
            state = torch.full((width, self.vocabulary + len(outcome)), self.PAD_LOGIT, dtype=torch.float64)
            state[: len(canvas), : self.vocabulary] = insertion
            state[: len(canvas), self.vocabulary :] = outcome
            states.append(state)
        return torch.stack(states)[which]


class Outcome(torch.nn.Module):
    def __init__(self, vocabulary, classes):
        super().__init__()
        self.vocabulary = vocabulary
        self.classes = SimpleNamespace(out_features=classes)

    def forward(self, states):
        return states[..., self.vocabulary :]


@pytest.fixture
def table(tokenizer):
    return lambda score, **options: Table(score, len(tokenizer), **options)
