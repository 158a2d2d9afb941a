"""Decoding by filling masks: at each step some of them, in a random order or the surest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.canvas import Specials, until
from xlm_core.errors import ConfigError
from xlm_core.losses.vocabulary import CHUNK_ELEMENTS
from xlm_core.protocols import Prediction, Tokenizer
from xlm_core.sampling import confidence
from xlm_core.sampling.categorical import Choice, choose
from xlm_core.sampling.random import RowRandom
from xlm_core.trace import Recorder, Trace
from xlm_family_mlm.collator import MlmBatch
from xlm_family_mlm.config import PredictorConfig
from xlm_family_mlm.model import MlmModel


class _Words(NamedTuple):
    """What may be written."""

    ids: Tensor
    """(W,) int64."""
    weight: Tensor
    """(W, D): their rows of the vocabulary head."""


class _Seen(NamedTuple):
    """The rows that still have masks, as the network sees them at one step."""

    rows: Tensor
    """(N,) int64: where each stands in the batch."""
    hidden: Tensor
    """(N, L, D)."""
    masked: Tensor
    """(N, L) bool."""
    ends: Tensor
    """(N,) bool: whether EOS may be written."""


class _Written(NamedTuple):
    """The canvas, and when and how surely each column was written."""

    ids: Tensor
    """(B, L) int64."""
    step: Tensor
    """(B, L) int64; -1 on columns that no step wrote."""
    probability: Tensor
    """(B, L) float64."""


class MlmPredictor:
    """Fills the masks of each row. A row with none left leaves the batch; one without any never enters it.

    No special token but EOS is ever written, and EOS only where the row's end is to be found; then all masks right of it
    become EOS as well, as they are in training. A row's choices depend on its draw number and the seed alone.
    """

    def __init__(self, cfg: PredictorConfig, model: MlmModel, tokenizer: Tokenizer) -> None:
        _check(cfg)
        self.cfg = cfg
        self.model = model
        specials = Specials.of(tokenizer)
        self.pad_id, self.mask_id, self.eos_id = specials.pad, specials.mask, specials.eos
        self.vocabulary = torch.tensor([token for token in range(len(tokenizer)) if token not in specials.never_generated])

    @torch.inference_mode()
    def predict(self, batch: MlmBatch, *, seed: int, trace: bool = False) -> Prediction:
        """See `xlm_core.protocols.Predictor`. Traces hold what became part of the answer, and nothing behind its EOS."""
        ids = batch["input_ids"].clone()
        written = _Written(ids, torch.full_like(ids, -1), torch.zeros_like(ids, dtype=torch.float64))
        columns = torch.arange(ids.shape[1], device=ids.device)
        answer = (columns >= batch["start"][:, None]) & (columns < batch["stop"][:, None])
        vocabulary = self.vocabulary.to(ids.device)
        words = _Words(vocabulary, self.model.head.weight[vocabulary])
        random = RowRandom(seed, batch["draw"])
        nfe = torch.zeros_like(batch["start"])
        for step in range(ids.shape[1]):  # each fills at least one column of every row that has masks
            masked = answer & (ids == self.mask_id)
            rows = masked.any(-1).nonzero()[:, 0]
            if not len(rows):
                break
            hidden_NLD = self.model.hidden(ids[rows], attention_mask=batch["attention_mask"][rows])
            nfe[rows] += 1
            seen = _Seen(rows, hidden_NLD, masked[rows], batch["ends"][rows])
            self._write(seen, words, random, step, written)
            self._close(seen, written.ids)
        return self._prediction(batch, written, nfe, trace=trace)

    def _write(self, seen: _Seen, words: _Words, random: RowRandom, step: int, written: _Written) -> None:
        row, column = self._positions(seen, words, random, step).nonzero().unbind(1)
        uniform = random.uniform(2 * step + 1, seen.masked.shape[1:])[seen.rows[row], column]
        logits = self._logits(seen.hidden[row, column], seen.ends[row], words)
        parts = [choose(part, self.cfg.token, u) for part, u in zip(logits, uniform.split(_chunk(words)), strict=True)]
        choice = Choice(*(torch.cat(values) for values in zip(*parts, strict=True)))
        at = (seen.rows[row], column)
        written.ids[at] = words.ids[choice.index]
        written.step[at] = step
        written.probability[at] = choice.probability

    def _positions(self, seen: _Seen, words: _Words, random: RowRandom, step: int) -> Tensor:
        """(N, L) bool: the masks that this step fills, at least one in each row."""
        steps_left = self.cfg.steps - step if self.cfg.steps else None
        remaining = seen.masked.sum(-1)
        least = torch.ones_like(remaining) if steps_left is None else confidence.even_share(remaining, steps_left)
        noise = random.uniform(2 * step, seen.masked.shape[1:])[seen.rows]
        if self.cfg.order == "random":
            return confidence.select(noise, seen.masked, least)
        sureness = self._confidence(seen, words)
        scores = sureness
        if self.cfg.order_temperature > 0:
            scores = sureness.double() / self.cfg.order_temperature + confidence.gumbel(noise)
        if self.cfg.threshold is None:
            return confidence.select(scores, seen.masked, least)
        errors = confidence.error(sureness, self.cfg.order)
        return confidence.select(scores, seen.masked, least, errors=errors, threshold=self.cfg.threshold)

    def _confidence(self, seen: _Seen, words: _Words) -> Tensor:
        """(N, L): how sure the network is of each mask; 0 elsewhere."""
        row, column = seen.masked.nonzero().unbind(1)
        logits = self._logits(seen.hidden[row, column], seen.ends[row], words)
        found = torch.cat([confidence.confidence(part, self.cfg.order) for part in logits])
        return found.new_zeros(seen.masked.shape).index_put((row, column), found)

    def _logits(self, hidden_MD: Tensor, ends: Tensor, words: _Words) -> Iterator[Tensor]:
        """Logits of the words at (M, D) hidden states, a few rows at a time; -inf for EOS where `ends` (M,) is False."""
        rows = _chunk(words)
        for part, may_end in zip(hidden_MD.split(rows), ends.split(rows), strict=True):
            logits = part @ words.weight.T
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            yield logits.masked_fill((words.ids == self.eos_id) & ~may_end[:, None], -torch.inf)

    def _close(self, seen: _Seen, ids: Tensor) -> None:
        """Write EOS into the masks that are right of an EOS that was a mask itself."""
        now = ids[seen.rows]
        ended = ((now == self.eos_id) & seen.masked).cumsum(-1) > 0
        closed = ended & (now == self.mask_id) & seen.masked
        ids[seen.rows] = now.masked_fill(closed, self.eos_id)

    def _prediction(self, batch: MlmBatch, written: _Written, nfe: Tensor, *, trace: bool) -> Prediction:
        lengths = batch["stop"] - batch["start"]
        columns = torch.arange(int(lengths.max()) if len(lengths) else 0, device=lengths.device)
        places = (columns + batch["start"][:, None]).clamp_(max=written.ids.shape[1] - 1)
        answers = written.ids.gather(1, places).masked_fill(columns >= lengths[:, None], self.pad_id)
        answers = torch.where(batch["ends"][:, None], until(answers, self.eos_id, self.pad_id), answers)
        if not trace:
            return Prediction(answers, nfe)
        lengths = (answers != self.pad_id).sum(-1)
        return Prediction(answers, nfe, _traces(batch, written, places, lengths))


def _traces(batch: MlmBatch, written: _Written, places: Tensor, lengths: Tensor) -> list[Trace]:
    """The log of each answer: its columns in the order of the steps that wrote them, those of one step from the left.

    Args:
        places: (B, T) int64, the columns of the answers.
        lengths: (B,) int64, how many of them have a token.
    """
    columns = torch.arange(places.shape[1], device=places.device)
    step = written.step.gather(1, places).masked_fill(columns >= lengths[:, None], -1)
    order = step.argsort(dim=-1, stable=True)
    ids, probability = (x.gather(1, places).gather(1, order) for x in (written.ids, written.probability))
    step = step.gather(1, order)
    recorder = Recorder()
    recorder.record("unmask", step >= 0, step=step, position=order, token=ids, confidence=probability)
    starts = batch["input_ids"].gather(1, places).tolist()
    return recorder.traces([row[:length] for row, length in zip(starts, lengths.tolist(), strict=True)])


def _chunk(words: _Words) -> int:
    """How many rows of logits there may be at once."""
    return max(1, CHUNK_ELEMENTS // len(words.ids))


def _check(cfg: PredictorConfig) -> None:
    if cfg.order not in confidence.ORDERS:
        raise ConfigError(f"predictor.order={cfg.order!r} is unknown", f"One of {', '.join(confidence.ORDERS)}.")
    if cfg.steps is not None and cfg.steps < 1:
        raise ConfigError(f"predictor.steps={cfg.steps} leaves no step", "Make it at least 1, or null for one a token.")
    if cfg.order_temperature < 0:
        raise ConfigError(f"predictor.order_temperature={cfg.order_temperature} is negative", "0 is without noise.")
    if cfg.order == "random" and (cfg.threshold is not None or cfg.order_temperature > 0):
        raise ConfigError(
            "predictor.threshold and predictor.order_temperature are about confidences, and order=random has none",
            f"Set predictor.order to one of {', '.join(confidence.ORDERS[1:])}, or leave them out.",
        )
