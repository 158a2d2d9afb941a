"""Decoding by filling masks, the surest first."""

from __future__ import annotations

import torch
from torch import Tensor

from xlm_core.canvas import Specials, pad
from xlm_core.errors import ConfigError
from xlm_core.protocols import Prediction, Tokenizer
from xlm_core.sampling.categorical import choose
from xlm_core.sampling.confidence import confidence, even_share, select
from xlm_core.sampling.random import RowRandom
from xlm_core.trace import Recorder
from xlm_family_minimal.collator import MinimalBatch
from xlm_family_minimal.config import PredictorConfig
from xlm_family_minimal.model import MinimalModel


class MinimalPredictor:
    """At each step every mask is given a token, and those that the network is surest of are kept (Chang et al., 2022,
    arXiv 2202.04200, section 3.2, with as many at each step). The answer ends before its first EOS."""

    def __init__(self, cfg: PredictorConfig, model: MinimalModel, tokenizer: Tokenizer) -> None:
        if cfg.steps is not None and cfg.steps < 1:
            raise ConfigError(f"predictor.steps={cfg.steps} leaves no step", "At least 1, or null for one a token.")
        self.cfg, self.model, self.specials = cfg, model, Specials.of(tokenizer)

    @torch.inference_mode()
    def predict(self, batch: MinimalBatch, *, seed: int, trace: bool = False) -> Prediction:
        """See `xlm_core.protocols.Predictor`. A trace has an event for each token of the answer."""
        ids, valid = batch["input_ids"].clone(), batch["attention_mask"]
        columns = torch.arange(ids.shape[1], device=ids.device)
        place = columns - batch["begin"][:, None]
        random, nfe = RowRandom(seed, batch["draw"]), torch.zeros_like(batch["begin"])
        when, probability = torch.full_like(ids, -1), torch.zeros_like(ids, dtype=torch.float64)
        for step in range(ids.shape[1]):  # each fills a mask of every row that has one
            masked = valid & (place >= 0) & (ids == self.specials.mask)
            if not masked.any():
                break
            nfe += masked.any(-1)
            token, chance, sureness = self._proposals(ids, valid, masked, random.uniform(step, columns.shape))
            steps_left = self.cfg.steps - step if self.cfg.steps else ids.shape[1]
            kept = select(sureness, masked, even_share(masked.sum(-1), steps_left))
            ids, probability = torch.where(kept, token, ids), torch.where(kept, chance, probability)
            when = when.masked_fill(kept, step)
        answers = [self._answer(row[at]) for row, at in zip(ids, valid & (place >= 0), strict=True)]
        found = pad(answers, self.specials.pad).ids.to(ids.device)
        if not trace:
            return Prediction(found, nfe)
        recorder, lengths = Recorder(), torch.tensor([len(answer) for answer in answers], device=ids.device)
        for step in range(ids.shape[1]):
            written = (when == step) & (place < lengths[:, None])
            recorder.record("unmask", written, step=step, position=place, token=ids, confidence=probability)
        return Prediction(found, nfe, recorder.traces([[self.specials.mask] * len(answer) for answer in answers]))

    def _proposals(self, ids: Tensor, valid: Tensor, masked: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Token, its probability, and how sure the network is of its best token: each (B, L), and 0 where there is no mask."""
        at = masked.nonzero(as_tuple=True)
        logits = self.model.head(self.model(ids, valid)[at]).float()
        logits[:, list(self.specials.never_generated)] = -torch.inf
        choice = choose(logits, self.cfg.token, uniform[at])
        values = (choice.index, choice.probability, confidence(logits, "top_prob"))
        token, chance, sureness = (value.new_zeros(ids.shape).index_put(at, value) for value in values)
        return token, chance, sureness

    def _answer(self, row: Tensor) -> list[int]:
        tokens: list[int] = row.tolist()
        return tokens[: tokens.index(self.specials.eos)] if self.specials.eos in tokens else tokens
