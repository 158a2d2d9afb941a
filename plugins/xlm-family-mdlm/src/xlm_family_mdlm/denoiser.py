"""One network evaluation for all columns that are revealed together, and the book-keeping that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xlm_core.canvas import Specials
from xlm_core.config import SamplingConfig
from xlm_core.losses.vocabulary import CHUNK_ELEMENTS
from xlm_core.sampling.categorical import Choice, choose
from xlm_core.sampling.confidence import confidence
from xlm_core.trace import Operation, Recorder
from xlm_family_mdlm.model import MdlmModel, readable
from xlm_family_mdlm.window import Window

GREEDY = SamplingConfig(temperature=0.0)


@dataclass(frozen=True)
class Words:
    """What may be written: content, EOS and padding."""

    ids: Tensor
    """(W,) int64."""
    weight: Tensor
    """(W, D): their rows of the vocabulary head."""
    ends: Tensor
    """(W,) bool: EOS and padding."""


@dataclass(frozen=True)
class Moment:
    """Where in the process each row is."""

    time: Tensor
    """(B,) float64, from 1 to 0."""
    noise: Tensor
    """(B,) float64: c(time), the probability that a token is masked."""
    greedy: Tensor | None = None
    """(B,) bool: rows that take the most probable token."""


@dataclass
class Denoiser:
    """Draws tokens for masked columns; counts evaluations and keeps the event log."""

    model: MdlmModel
    specials: Specials
    words: Words
    token: SamplingConfig
    nfe: Tensor
    """(B,) int64."""
    recorder: Recorder | None = None

    def masked(self, window: Window) -> Tensor:
        """(B, L) bool: columns that wait for a token."""
        return window.free & (window.ids == self.specials.mask)

    def readable(self, window: Window) -> Tensor:
        """(B, L) bool: columns before the row's end. Masked ones behind it are padding, whatever the network says."""
        return readable(window.ids, window.start, self.specials)

    def fill(self, window: Window, where: Tensor, at: Moment, uniform: Tensor, order: str | None = None) -> None:
        """Write a token in each column of `where`, all given what is visible now. One evaluation, of the rows that need one.

        Args:
            where: (B, L) bool, masked readable columns, at least one.
            uniform: (B, L) float64 in (0, 1).
            order: write only the column of each row of which the network is surest by this confidence.
        """
        rows = where.any(-1).nonzero()[:, 0]
        hidden_KD, ended = self._states(window, rows, where[rows], at.noise[rows])
        if order is not None:
            best = self._surest(hidden_KD, ended, where, order)
            hidden_KD, ended, where = hidden_KD[best[where]], ended[best[where]], best
        place = where.nonzero(as_tuple=True)
        logits_KW = self._logits(hidden_KD, ended)
        choice = self._choose(logits_KW, uniform[place], None if at.greedy is None else at.greedy[place[0]])
        window.ids[place], window.confidence[place] = self.words.ids[choice.index], choice.probability
        self.record("unmask", window, where, self.nfe, at.time)
        self.nfe[rows] += 1

    def _logits(self, hidden_KD: Tensor, ended: Tensor) -> Tensor:
        """(K, W) float32. Left of a visible EOS nothing can end: neither a text whose end is known nor an infilled one."""
        logits_KW = (hidden_KD @ self.words.weight.T).float()
        return logits_KW.masked_fill(ended[:, None] & self.words.ends, -torch.inf)

    def _surest(self, hidden_KD: Tensor, ended: Tensor, where: Tensor, order: str) -> Tensor:
        """(B, L) bool: of the columns of `where`, the K whose states are given, the surest of each row; the first of equals."""
        chunk = max(1, CHUNK_ELEMENTS // len(self.words.ids))
        parts = zip(hidden_KD.split(chunk), ended.split(chunk), strict=True)
        sureness = torch.cat([confidence(self._logits(hidden, end), order) for hidden, end in parts])
        scores = sureness.new_full(where.shape, -torch.inf).masked_scatter(where, sureness)
        return where & torch.zeros_like(where).scatter(1, scores.argmax(-1, keepdim=True), True)

    def _states(self, window: Window, rows: Tensor, where: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The states of the columns to fill, (K, D), and whether the end of their row is visible, (K,)."""
        ids, start = window.ids[rows], window.start[rows]
        valid = readable(ids, start, self.specials)
        ended = ((ids == self.specials.eos) & valid & (torch.arange(ids.shape[1], device=ids.device) >= start[:, None])).any(-1)
        width = int(valid.sum(-1).max())  # readable columns are the first of a row, so nothing is lost
        hidden_NLD = self.model.hidden(ids[:, :width], valid[:, :width], noise)
        row, column = where.nonzero(as_tuple=True)
        return hidden_NLD[row, column], ended[row]

    def _choose(self, logits_KW: Tensor, uniform: Tensor, greedy: Tensor | None) -> Choice:
        drawn = choose(logits_KW, self.token, uniform)
        if greedy is None:
            return drawn
        best = choose(logits_KW, GREEDY, uniform)
        return Choice(*(torch.where(greedy, b, d) for b, d in zip(best, drawn, strict=True)))

    def record(self, operation: Operation, window: Window, where: Tensor, step: Tensor, time: Tensor) -> None:
        """Log what now stands in the columns of `where`. `step` and `time`: (B,)."""
        if self.recorder is None:
            return
        position = torch.arange(where.shape[1], device=where.device) + (window.offset - window.start)[:, None]
        self.recorder.record(
            operation,
            where,
            step=step[:, None],
            position=position,
            token=window.ids,
            confidence=window.confidence,
            time=time[:, None],
        )
