"""Decoding by filling masks, each from the state of the column before it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.canvas import Specials, until
from xlm_core.errors import ConfigError
from xlm_core.protocols import Prediction, Tokenizer
from xlm_core.sampling import confidence
from xlm_core.sampling.random import RowRandom
from xlm_core.trace import Recorder, Trace
from xlm_family_dream import cache, schedule
from xlm_family_dream.agreement import NOTHING, agreement
from xlm_family_dream.cache import BlockCache, Window
from xlm_family_dream.collator import DreamBatch
from xlm_family_dream.config import PredictorConfig
from xlm_family_dream.drawing import Words, draw
from xlm_family_dream.model import DreamModel
from xlm_family_dream.schedule import Schedule, Turn
from xlm_family_dream.stopping import StopStrings

logger = logging.getLogger(__name__)


@dataclass
class _State:
    """The rows while they are decoded."""

    ids: Tensor
    """(B, L) int64: the canvas."""
    answer: Tensor
    """(B, L) bool: the columns start .. stop - 1."""
    ends: Tensor
    """(B,) bool: whether EOS may be written."""
    cut: Tensor
    """(B,) int64: the column where a stop string begins; L where none has been found."""
    read: Tensor
    """(B,) int64: up to where stop strings have been looked for."""
    step: Tensor
    """(B, L) int64: the evaluation that wrote a column; -1 where none did."""
    probability: Tensor
    """(B, L) float64."""
    nfe: Tensor
    """(B,) int64."""


class _Draws(NamedTuple):
    """A step's random numbers, (B, L) float64 in (0, 1): for where to write, and what."""

    order: Tensor
    token: Tensor


class DreamPredictor:
    """Fills the masks of each row. A row whose answer is whole leaves the batch; one without masks never enters it.

    No special token but EOS is ever written, and EOS only where the row's end is to be found. A row's choices depend on its
    draw number and the seed alone.
    """

    def __init__(self, cfg: PredictorConfig, model: DreamModel, tokenizer: Tokenizer) -> None:
        _check(cfg)
        cache.check(cfg, causal=model.cfg.causal)
        self.cfg = cfg
        self.model = model
        self.tokenizer = tokenizer
        specials = Specials.of(tokenizer)
        self.pad_id, self.mask_id, self.eos_id = specials.pad, specials.mask, specials.eos
        self.vocabulary = torch.tensor([token for token in range(len(tokenizer)) if token not in specials.never_generated])
        self.stop = StopStrings(cfg.stop, tokenizer)
        self.agreement = NOTHING
        """Of all batches so far, with `report_agreement`."""

    @torch.inference_mode()
    def predict(self, batch: DreamBatch, *, seed: int, trace: bool = False) -> Prediction:
        """See `xlm_core.protocols.Predictor`. Traces hold what became part of the answer, and nothing behind its end.

        With a cache, rows in which a block begins are evaluated apart from the others, so there may be more forward calls than
        evaluations of any one row.
        """
        state = self._begin(batch)
        vocabulary = self.vocabulary.to(state.ids.device)
        words = Words(vocabulary, self.model.head.weight[vocabulary], self.eos_id)
        evaluate = BlockCache(self.cfg.cache, self.model, state.ids, batch["attention_mask"])
        masked = state.answer & (state.ids == self.mask_id)
        plan = Schedule(self.cfg, masked, batch["start"], batch["stop"])
        random = RowRandom(seed, batch["draw"])
        tick = 0  # of a row, too: a row that is active has been so from the beginning
        while (active := self._active(state)).any():
            draws = _Draws(*(random.uniform(2 * tick + n, masked.shape[1:]) for n in (0, 1)))
            turn = self._at_random(plan.turn(state.answer & (state.ids == self.mask_id), active), draws.order)
            rows = (turn.share > 0).nonzero()[:, 0]
            for window in evaluate.windows(turn, rows):
                self._write(window, evaluate.hidden(window), turn, words, draws, state)
            plan.evaluated(rows)
            self._close(state)
            self._look_for_stops(batch["start"], state)
            tick += 1
        prediction = self._prediction(batch, state, trace=trace)
        if self.cfg.report_agreement:
            self._report(batch, prediction, seed)
        return prediction

    def _begin(self, batch: DreamBatch) -> _State:
        ids = batch["input_ids"].clone()
        columns = torch.arange(ids.shape[1], device=ids.device)
        answer = (columns >= batch["start"][:, None]) & (columns < batch["stop"][:, None])
        cut = torch.full_like(batch["start"], ids.shape[1])
        step, probability = torch.full_like(ids, -1), torch.zeros_like(ids, dtype=torch.float64)
        return _State(ids, answer, batch["ends"], cut, batch["start"].clone(), step, probability, torch.zeros_like(cut))

    def _active(self, state: _State) -> Tensor:
        """(B,) bool: rows with a mask before their end."""
        ended = (state.answer & (state.ids == self.eos_id) & state.ends[:, None]).cumsum(-1) > 0
        before = ~ended & (torch.arange(ended.shape[1], device=ended.device) < state.cut[:, None])
        return (state.answer & (state.ids == self.mask_id) & before).any(-1)

    def _at_random(self, turn: Turn, noise: Tensor) -> Turn:
        """In a random order, what is revealed is known before anything is evaluated; the others need no token then.

        Args:
            noise: (B, L) float64 in (0, 1), smallest first.
        """
        if self.cfg.order != "random":
            return turn
        share = turn.share
        if self.cfg.schedule == "linear":
            share = (turn.candidates & (noise < turn.rate[:, None])).sum(-1)
        if self.cfg.threshold is None:
            turn = turn._replace(candidates=confidence.select(-noise, turn.candidates, share))
        return turn._replace(share=share)

    def _write(self, window: Window, hidden_NWD: Tensor, turn: Turn, words: Words, draws: _Draws, state: _State) -> None:
        """Write into the rows of a window what their turn reveals."""
        rows, candidates = window.rows, turn.candidates[window.rows]
        row, column = candidates.nonzero().unbind(1)
        batch_row = rows[row]
        hidden_MD = hidden_NWD[row, window.place(row, (column - 1).clamp(min=0))]
        uniform = draws.token[batch_row, column]
        drawn = draw(hidden_MD, state.ends[batch_row], words, self.cfg.token, self.cfg.order, uniform)
        scores = self._scores(drawn.confidence, draws.order[batch_row, column])
        table = scores.new_zeros(candidates.shape).index_put((row, column), scores)
        taken = confidence.select(table, candidates, turn.share[rows])[row, column]
        if self.cfg.threshold is not None:
            taken |= drawn.probability >= self.cfg.threshold
        at = (batch_row[taken], column[taken])
        state.ids[at] = drawn.token[taken]
        state.probability[at] = drawn.probability[taken]
        state.step[at] = state.nfe[at[0]]
        state.nfe[rows] += 1

    def _scores(self, sureness: Tensor, noise: Tensor) -> Tensor:
        """(M,): what is revealed first has the largest."""
        if self.cfg.order == "random":
            return -noise
        if self.cfg.order_temperature > 0:
            return sureness / self.cfg.order_temperature + confidence.gumbel(noise)
        return sureness

    def _close(self, state: _State) -> None:
        """Write EOS into the masks that are right of a decoded EOS."""
        if self.cfg.close:
            ended = (state.answer & (state.ids == self.eos_id) & state.ends[:, None]).cumsum(-1) > 0
            state.ids[ended & state.answer & (state.ids == self.mask_id)] = self.eos_id

    def _look_for_stops(self, start: Tensor, state: _State) -> None:
        """Find stop strings in front of each row's first mask, where that has moved."""
        if not self.cfg.stop:
            return
        masked = state.answer & (state.ids == self.mask_id)
        columns = torch.arange(masked.shape[1], device=masked.device)
        until_mask = torch.where(masked, columns, columns + masked.shape[1]).amin(-1)
        written = torch.minimum(until_mask, (state.answer * (columns + 1)).amax(-1))
        for row in (state.ends & (written > state.read)).nonzero()[:, 0].tolist():
            begin = int(start[row])
            count = self.stop.cut(state.ids[row, begin : int(written[row])].tolist())
            if count is not None:
                state.cut[row] = begin + count
        state.read = torch.maximum(state.read, written)

    def _prediction(self, batch: DreamBatch, state: _State, *, trace: bool) -> Prediction:
        lengths = torch.minimum(batch["stop"], state.cut) - batch["start"]
        columns = torch.arange(int(lengths.max()) if len(lengths) else 0, device=lengths.device)
        places = (columns + batch["start"][:, None]).clamp_(max=state.ids.shape[1] - 1)
        answers = state.ids.gather(1, places).masked_fill(columns >= lengths[:, None], self.pad_id)
        answers = torch.where(batch["ends"][:, None], until(answers, self.eos_id, self.pad_id), answers)
        if not trace:
            return Prediction(answers, state.nfe)
        return Prediction(answers, state.nfe, _traces(batch, state, places, (answers != self.pad_id).sum(-1)))

    def _report(self, batch: DreamBatch, prediction: Prediction, seed: int) -> None:
        """Decode again without approximations, and log the comparison."""
        cfg = replace(self.cfg, cache="none", threshold=None, report_agreement=False)
        exact = DreamPredictor(cfg, self.model, self.tokenizer).predict(batch, seed=seed)
        self.agreement += agreement(prediction, exact, self.pad_id)
        what = f"cache={self.cfg.cache}, threshold={self.cfg.threshold}"
        logger.warning("approximate decoding (%s): %s", what, self.agreement)


def _traces(batch: DreamBatch, state: _State, places: Tensor, lengths: Tensor) -> list[Trace]:
    """The log of each answer: its columns in the order of the steps that wrote them, those of one step from the left.

    Args:
        places: (B, T) int64, the columns of the answers.
        lengths: (B,) int64, how many of them have a token.
    """
    columns = torch.arange(places.shape[1], device=places.device)
    step = state.step.gather(1, places).masked_fill(columns >= lengths[:, None], -1)
    order = step.argsort(dim=-1, stable=True)
    ids, probability = (x.gather(1, places).gather(1, order) for x in (state.ids, state.probability))
    step = step.gather(1, order)
    recorder = Recorder()
    recorder.record("unmask", step >= 0, step=step, position=order, token=ids, confidence=probability)
    starts = batch["input_ids"].gather(1, places).tolist()
    return recorder.traces([row[:length] for row, length in zip(starts, lengths.tolist(), strict=True)])


def _check(cfg: PredictorConfig) -> None:
    schedule.check(cfg)
    if cfg.order not in confidence.ORDERS:
        raise ConfigError(f"predictor.order={cfg.order!r} is unknown", f"One of {', '.join(confidence.ORDERS)}.")
    if cfg.order_temperature < 0:
        raise ConfigError(f"predictor.order_temperature={cfg.order_temperature} is negative", "0 is without noise.")
    if cfg.order_temperature > 0 and cfg.order == "random":
        raise ConfigError(
            "predictor.order_temperature is about confidences, and order=random has none",
            f"Set predictor.order to one of {', '.join(confidence.ORDERS[1:])}, or leave it out.",
        )
    if cfg.threshold is not None and not 0 < cfg.threshold <= 1:
        raise ConfigError(f"predictor.threshold={cfg.threshold} is no probability", "Make it above 0 and at most 1, or null.")
    if "" in cfg.stop:
        raise ConfigError("predictor.stop has an empty string, which is in every text", "Leave it out.")
    if cfg.report_agreement and cfg.cache == "none" and cfg.threshold is None:
        hint = "Set predictor.cache or predictor.threshold, or leave predictor.report_agreement out."
        raise ConfigError("predictor.report_agreement compares with exact decoding, and nothing is approximate", hint)
