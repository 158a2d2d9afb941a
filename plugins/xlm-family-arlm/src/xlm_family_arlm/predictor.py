"""Decoding from left to right: one token a step behind each row, until its EOS."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from xlm_core.canvas import Specials, positions, until
from xlm_core.errors import ConfigError
from xlm_core.nn.transformer import Caches
from xlm_core.protocols import Prediction, Tokenizer
from xlm_core.sampling.categorical import choose
from xlm_core.sampling.random import RowRandom
from xlm_core.trace import Recorder
from xlm_family_arlm.collator import ArlmBatch
from xlm_family_arlm.config import PredictorConfig
from xlm_family_arlm.model import ArlmModel


@dataclass
class _State:
    """The rows that have not ended. Buffers are as wide as a row can get; all rows write in the same column."""

    rows: Tensor
    """(N,) int64: where each stands in the batch."""
    ids: Tensor
    """(N, W + T) int64: the prompt of W columns, then the answer."""
    valid: Tensor
    """(N, W + T) bool: False on the padding left of the prompt."""
    positions: Tensor
    """(N, W + T) int64."""
    caches: Caches | None

    def keep(self, these: Tensor) -> None:
        """Let the other rows go. `these`: (M,) int64 indices into the rows, ascending."""
        if len(these) == len(self.rows):
            return
        self.rows, self.ids = self.rows[these], self.ids[these]
        self.valid, self.positions = self.valid[these], self.positions[these]
        if self.caches is not None:
            self.caches.keep(these)


class ArlmPredictor:
    """Appends tokens to each row until it has EOS or `max_new_tokens` of them.

    No special token but EOS is ever written, and an EOS in the prompt ends nothing. Rows that have ended leave the batch. A
    row's choices depend on its draw number and the seed alone.
    """

    def __init__(self, cfg: PredictorConfig, model: ArlmModel, tokenizer: Tokenizer) -> None:
        if cfg.max_new_tokens < 1:
            raise ConfigError(
                f"predictor.max_new_tokens={cfg.max_new_tokens} leaves no room for an answer", "Make it at least 1."
            )
        self.cfg = cfg
        self.model = model
        specials = Specials.of(tokenizer)
        self.pad_id, self.eos_id = specials.pad, specials.eos
        self.vocabulary = torch.tensor([token for token in range(len(tokenizer)) if token not in specials.never_generated])

    @torch.inference_mode()
    def predict(self, batch: ArlmBatch, *, seed: int, trace: bool = False) -> Prediction:
        """See `xlm_core.protocols.Predictor`. `nfe` counts the evaluation that gave EOS as well."""
        state = self._begin(batch)
        width, rows = batch["input_ids"].shape[1], len(state.rows)
        vocabulary = self.vocabulary.to(state.ids.device)
        weight = self.model.head.weight[vocabulary]
        random = RowRandom(seed, batch["draw"])
        written = state.ids.new_full((rows, self.cfg.max_new_tokens), self.pad_id)
        confidence = torch.zeros_like(written, dtype=torch.float64)
        for step in range(self.cfg.max_new_tokens):
            if not len(state.rows):
                break
            logits_NV = (self._last_hidden(state, width, step) @ weight.T).float()
            choice = choose(logits_NV, self.cfg.token, random.uniform(step)[state.rows])
            token = vocabulary[choice.index]
            state.ids[:, width + step] = token
            written[state.rows, step], confidence[state.rows, step] = token, choice.probability
            state.keep((token != self.eos_id).nonzero()[:, 0])
        return self._prediction(written, confidence, trace=trace)

    def _begin(self, batch: ArlmBatch) -> _State:
        room = (0, self.cfg.max_new_tokens)
        ids = F.pad(batch["input_ids"], room, value=self.pad_id)
        valid = F.pad(batch["attention_mask"], room, value=True)
        rows = torch.arange(len(ids), device=ids.device)
        caches = self.model.new_caches(*ids.shape) if self.cfg.use_cache else None
        return _State(rows, ids, valid, positions(valid), caches)

    def _last_hidden(self, state: _State, width: int, step: int) -> Tensor:
        """(N, D): the states from which the token of this step is predicted."""
        end = width + step
        begin = end - 1 if state.caches is not None and step > 0 else 0
        hidden_NLD = self.model.hidden(
            state.ids[:, begin:end],
            attention_mask=state.valid[:, :end],
            positions=state.positions[:, begin:end],
            caches=state.caches,
        )
        return hidden_NLD[:, -1]

    def _prediction(self, written: Tensor, confidence: Tensor, *, trace: bool) -> Prediction:
        """Every evaluation of a row wrote one token of it, the EOS included."""
        nfe = (written != self.pad_id).sum(-1)
        ids = until(written, self.eos_id, self.pad_id)
        present = ids != self.pad_id
        longest = int(present.sum(-1).max()) if len(ids) else 0
        ids, present, confidence = (x[:, :longest] for x in (ids, present, confidence))
        if not trace:
            return Prediction(ids, nfe)
        recorder, columns = Recorder(), torch.arange(longest, device=ids.device)
        recorder.record("append", present, step=columns, position=columns, token=ids, confidence=confidence)
        return Prediction(ids, nfe, recorder.traces([()] * len(ids)))
