"""Decoding: masks are inserted where something is missing and revealed, at the rates of the process, until its time is over."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.canvas import Specials
from xlm_core.errors import ConfigError
from xlm_core.protocols import Prediction, Tokenizer
from xlm_core.sampling.categorical import choose
from xlm_core.sampling.confidence import ORDERS, confidence, select
from xlm_core.sampling.random import RowRandom
from xlm_core.trace import Operation, Recorder
from xlm_family_flexmdm.canvas import Canvas
from xlm_family_flexmdm.chance import Chance, Use
from xlm_family_flexmdm.collator import FlexmdmBatch
from xlm_family_flexmdm.config import PredictorConfig
from xlm_family_flexmdm.insertion import insertions
from xlm_family_flexmdm.model import FlexmdmModel, Reading
from xlm_family_flexmdm.schedules import Schedule

GAPS = ("rounded", "nearest", "drawn", "poisson")


@dataclass(frozen=True)
class FlexmdmPrediction(Prediction):
    """A prediction that also says what it had no room for."""

    refused: Tensor | None = None
    """(B,) int64: insertions that `max_new_tokens` kept out, at most `insertion.SPARE` times that number in each step. A token
    that is kept out may be wanted again in a later step: 0 says that all had room, other numbers count attempts."""


class Step(NamedTuple):
    """A step of the process, from a time to the next."""

    number: int
    time: float
    reveal: float
    """The probability that a mask becomes a token."""
    insert: float
    """The probability that a missing token becomes a mask."""


class Words(NamedTuple):
    """What may be written: content tokens only."""

    ids: Tensor
    """(V',) int64."""
    weight: Tensor
    """(V', D): their rows of the vocabulary head."""


@dataclass
class _Decode:
    """The state of one call."""

    canvas: Canvas
    words: Words
    random: RowRandom
    nfe: Tensor
    refused: Tensor
    recorder: Recorder | None

    def chance(self, step: Step, rows: Tensor) -> Chance:
        return Chance(self.random, step.number, rows)


class FlexmdmPredictor:
    """Runs the process from time 0 to 1 in `steps` steps of equal time, with the exact probabilities of each step.

    In a step from t to s every mask is revealed with probability (a_unm(s) - a_unm(t)) / (1 - a_unm(t)), in the order that the
    config says, and every token that is believed to be missing becomes a mask with that of a_ins. In the last step both are 1;
    one evaluation more reveals what it inserted. Only content tokens are written: EOS is there from the start and stays the
    end.

    Rows that can neither reveal nor insert any more leave the batch. A row's choices depend on its draw number and the seed
    alone.
    """

    def __init__(self, cfg: PredictorConfig, model: FlexmdmModel, tokenizer: Tokenizer) -> None:
        _check(cfg)
        if cfg.gap == "drawn" and model.length_head != "distribution":
            raise ConfigError("predictor.gap=drawn needs a law of each gap", "Train with model.length_head=distribution.")
        self.cfg = cfg
        self.model = model
        self.specials = Specials.of(tokenizer)
        self.steps = _steps(cfg.steps, model.insertion, model.unmasking)
        forbidden = {*self.specials.never_generated, self.specials.eos}
        self.vocabulary = torch.tensor([token for token in range(len(tokenizer)) if token not in forbidden])

    @torch.inference_mode()
    def predict(self, batch: FlexmdmBatch, *, seed: int, trace: bool = False) -> FlexmdmPrediction:
        """See `xlm_core.protocols.Predictor`."""
        canvas = Canvas.begin(batch, self.cfg.max_new_tokens, self.specials)
        starts = canvas.answer_lists() if trace else []
        ids = self.vocabulary.to(canvas.ids.device)
        words = Words(ids, self.model.head.weight[ids])
        nfe = torch.zeros_like(canvas.length)
        decode = _Decode(canvas, words, RowRandom(seed, batch["draw"]), nfe, nfe.clone(), Recorder() if trace else None)
        for step in self.steps:
            rows = (canvas.waiting.any(-1) | (canvas.growing & (step.insert > 0))).nonzero()[:, 0]
            if not len(rows):
                break
            self._advance(decode, step, rows)
        self._warn(decode.refused)
        traces = decode.recorder.traces(starts) if decode.recorder else None
        return FlexmdmPrediction(canvas.answers(), decode.nfe, traces, decode.refused)

    def _advance(self, decode: _Decode, step: Step, rows: Tensor) -> None:
        """One evaluation of (N,) rows: reveal masks, then insert."""
        canvas = decode.canvas
        width = int(canvas.length[rows].max())
        time = torch.full((len(rows),), step.time, dtype=torch.float64, device=rows.device)
        mask = torch.arange(width, device=rows.device) < canvas.length[rows, None]
        reading = self.model.read(canvas.ids[rows, :width], time, mask)
        due = canvas.waiting[rows, :width] & (decode.chance(step, rows)(Use.REVEAL, width) < step.reveal)
        self._reveal(decode, step, rows, due, reading)
        if step.insert > 0:
            self._insert(decode, step, rows, reading, width)
        decode.nfe[rows] += 1

    def _reveal(self, decode: _Decode, step: Step, rows: Tensor, due: Tensor, reading: Reading) -> None:
        canvas, words = decode.canvas, decode.words
        width = due.shape[1]

        def logits(columns: Tensor) -> Tensor:
            return (reading.hidden[columns] @ words.weight.T).float()

        where, logits_KV = self._where(canvas.waiting[rows, :width], due, logits)
        row, column = where.nonzero(as_tuple=True)
        uniform = decode.chance(step, rows)(Use.TOKEN, width)[row, column]
        choice = choose(logits_KV, self.cfg.token, uniform)
        canvas.ids[rows[row], column] = words.ids[choice.index]
        canvas.waiting[rows[row], column] = False
        if decode.recorder is not None:
            sureness = torch.zeros_like(where, dtype=torch.float64)
            sureness[row, column] = choice.probability
            self._record(decode, "unmask", step, rows, where, sureness)

    def _where(self, waiting: Tensor, due: Tensor, logits: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The masks to reveal, as many in each row as are due, and the logits of their tokens.

        Args:
            waiting, due: (N, C) bool.
            logits: gives those of the columns where a (N, C) bool is True.
        """
        order = self.cfg.order
        if order == "random":
            return due, logits(due)
        count = due.sum(-1)
        if order == "position":
            left = -torch.arange(due.shape[1], device=due.device, dtype=torch.float64)
            where = select(left.expand_as(due), waiting, count)
            return where, logits(where)
        all_KV = logits(waiting)
        sureness = confidence(all_KV, order)
        scores = torch.zeros_like(due, dtype=sureness.dtype).masked_scatter(waiting, sureness)
        where = select(scores, waiting, count)
        return where, all_KV[where[waiting]]

    def _insert(self, decode: _Decode, step: Step, rows: Tensor, reading: Reading, width: int) -> None:
        canvas, cfg = decode.canvas, self.cfg
        open_gaps, room = canvas.open[rows, :width], canvas.room[rows]
        chance = decode.chance(step, rows)
        drawn = insertions(reading.gaps, open_gaps, room, cfg.max_new_tokens, step.insert, cfg.gap, chance)
        inserted = canvas.grow(rows, drawn.counts)
        decode.refused[rows] += drawn.refused
        if decode.recorder is not None:
            self._record(decode, "insert", step, rows, inserted)

    def _record(
        self, decode: _Decode, operation: Operation, step: Step, rows: Tensor, where: Tensor, sureness: Tensor | None = None
    ) -> None:
        """Log what now stands at (N, C) bool columns. Insertions are logged from the left, each where it is in the end."""
        canvas, recorder = decode.canvas, decode.recorder
        assert recorder is not None
        active, chance = torch.zeros_like(canvas.open), torch.full(canvas.open.shape, torch.nan, dtype=torch.float64)
        active[rows, : where.shape[1]] = where
        if sureness is not None:
            chance = chance.to(sureness.device)
            chance[rows, : where.shape[1]] = sureness
        recorder.record(
            operation,
            active,
            step=decode.nfe[:, None],
            position=torch.arange(active.shape[1], device=active.device) - canvas.start[:, None],
            token=canvas.ids,
            confidence=chance,
            time=torch.tensor(step.time, dtype=torch.float64),
        )

    def _warn(self, refused: Tensor) -> None:
        if bool((refused > 0).any()):
            warnings.warn(
                f"rows wanted more than predictor.max_new_tokens={self.cfg.max_new_tokens} new tokens; the metric "
                "xlm_family_flexmdm.metrics.refused counts what they had no room for",
                stacklevel=3,
            )


def _steps(count: int, insertion: Schedule, unmasking: Schedule) -> list[Step]:
    """`count` steps of equal time, and the evaluation that fills what the last of them inserts."""
    grid = torch.arange(count + 1, dtype=torch.float64) / count
    columns = (grid[:-1], unmasking.step(grid[:-1], grid[1:]), insertion.step(grid[:-1], grid[1:]))
    steps = [Step(number, *row) for number, row in enumerate(zip(*(column.tolist() for column in columns), strict=True))]
    return [*steps, Step(count, 1.0, reveal=1.0, insert=0.0)]


def _check(cfg: PredictorConfig) -> None:
    for name, known in (("order", (*ORDERS, "position")), ("gap", GAPS)):
        if getattr(cfg, name) not in known:
            raise ConfigError(f"predictor.{name}={getattr(cfg, name)!r} is unknown", f"One of {', '.join(known)}.")
    for name in ("steps", "max_new_tokens"):
        if getattr(cfg, name) < 1:
            raise ConfigError(f"predictor.{name}={getattr(cfg, name)} is too small", "Make it at least 1.")
