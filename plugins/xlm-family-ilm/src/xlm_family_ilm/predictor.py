"""Decoding by insertion: one token a step, anywhere that is allowed, until the outcome head says that nothing is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.canvas import Specials
from xlm_core.errors import ConfigError
from xlm_core.losses.vocabulary import linear_logsumexp
from xlm_core.protocols import Prediction, Tokenizer
from xlm_core.sampling.categorical import choose
from xlm_core.sampling.random import RowRandom
from xlm_core.trace import Recorder
from xlm_family_ilm.collator import IlmBatch
from xlm_family_ilm.config import PredictorConfig
from xlm_family_ilm.model import STOP, IlmModel


@dataclass(frozen=True)
class _State:
    """The rows that are still growing. Buffers are as wide as a row can get; `length` and `gap_count` say what is used."""

    rows: Tensor
    """(N,) int64: where each stands in the batch."""
    ids: Tensor
    length: Tensor
    gaps: Tensor
    """(N, *) int64: columns whose gap may receive a token, ascending."""
    gap_count: Tensor
    start: Tensor
    """(N,) int64: the column where the answer begins."""

    def keep(self, these: Tensor) -> _State:
        """The state of these rows alone ((M,) int64 indices into the rows, ascending)."""
        if len(these) == len(self.rows):
            return self
        return _State(*(getattr(self, name)[these] for name in self.__dataclass_fields__))


class _Words(NamedTuple):
    """What may be inserted."""

    ids: Tensor
    """(W,) int64."""
    weight: Tensor
    """(W, D): their rows of the vocabulary head."""


class _Insertion(NamedTuple):
    gap: Tensor
    """(N,) int64: index into `gaps`."""
    token: Tensor
    probability: Tensor


class IlmPredictor:
    """Grows each row until p(stop) reaches the threshold or `max_new_tokens` are inserted.

    Special tokens are never inserted. Rows that have ended leave the batch; one without an open gap never enters it. A row's
    choices depend on its draw number and the seed alone.
    """

    def __init__(self, cfg: PredictorConfig, model: IlmModel, tokenizer: Tokenizer) -> None:
        if cfg.max_new_tokens < 1:
            hint = "Make it at least 1."
            raise ConfigError(f"predictor.max_new_tokens={cfg.max_new_tokens} leaves no room for an answer", hint)
        self.cfg = cfg
        self.model = model
        specials = Specials.of(tokenizer)
        self.pad_id = specials.pad
        forbidden = {*specials.never_generated, specials.eos}
        self.vocabulary = torch.tensor([token for token in range(len(tokenizer)) if token not in forbidden])

    @torch.inference_mode()
    def predict(self, batch: IlmBatch, *, seed: int, trace: bool = False) -> Prediction:
        """See `xlm_core.protocols.Predictor`. `nfe` counts the evaluation that decides to stop as well."""
        final = self._begin(batch)
        vocabulary = self.vocabulary.to(final.ids.device)
        words = _Words(vocabulary, self.model.head.weight[vocabulary])
        random = RowRandom(seed, batch["draw"])
        recorder = Recorder() if trace else None
        starts = self._answers(final) if trace else []
        nfe = torch.zeros_like(final.length)
        state = final.keep((final.gap_count > 0).nonzero()[:, 0])
        step = 0
        while len(state.rows):
            hidden_NLD = self._hidden(state, batch, step)
            nfe[state.rows] += 1
            go = self._continues(hidden_NLD, forced=self.cfg.force_first and step == 0)
            chosen = self._choose(hidden_NLD, state, batch, words, random, step)
            if recorder is not None:
                self._record(recorder, state, go, chosen, step, len(nfe))
            state = self._insert(state, go, chosen)
            final = _write(final, state)
            step += 1
            state = state.keep((go & (step < self.cfg.max_new_tokens)).nonzero()[:, 0])
        ids = self._ids(final)
        return Prediction(ids, nfe, recorder.traces(starts) if recorder else None)

    def _begin(self, batch: IlmBatch) -> _State:
        rows = torch.arange(len(batch["draw"]), device=batch["draw"].device)
        room = (0, self.cfg.max_new_tokens)
        ids = torch.nn.functional.pad(batch["input_ids"], room, value=self.pad_id)
        gaps = torch.nn.functional.pad(batch["gaps"], room)
        length, gap_count = batch["attention_mask"].sum(-1), batch["gap_mask"].sum(-1)
        return _State(rows, ids, length, gaps, gap_count, batch["start"])

    def _hidden(self, state: _State, batch: IlmBatch, step: int) -> Tensor:
        width = batch["input_ids"].shape[1] + step  # a bound that is known without asking the device
        mask = torch.arange(width, device=state.ids.device) < state.length[:, None]
        return self.model.hidden(state.ids[:, :width], mask)

    def _continues(self, hidden_NLD: Tensor, *, forced: bool) -> Tensor:
        logits = self.model.outcome(hidden_NLD[:, 0]).float() / self.cfg.stop_temperature
        stop: Tensor = logits.softmax(-1)[:, STOP]
        return (stop < self.cfg.stop_threshold) | forced

    def _choose(
        self, hidden_NLD: Tensor, state: _State, batch: IlmBatch, words: _Words, random: RowRandom, step: int
    ) -> _Insertion:
        count = batch["gaps"].shape[1] + step
        columns = state.gaps[:, :count]
        closed = torch.arange(count, device=columns.device) >= state.gap_count[:, None]
        hidden_NGD = hidden_NLD.gather(1, columns[..., None].expand(-1, -1, hidden_NLD.shape[-1]))
        first, second = (random.uniform(2 * step + i)[state.rows] for i in (0, 1))
        if self.cfg.joint:
            logits = (hidden_NGD @ words.weight.T).float().masked_fill(closed[..., None], float("-inf"))
            pair = choose(logits.flatten(1), self.cfg.token, second)
            return _Insertion(pair.index // len(words.ids), words.ids[pair.index % len(words.ids)], pair.probability)
        scores = linear_logsumexp(hidden_NGD.flatten(0, 1), words.weight).view(columns.shape)
        gap = choose(scores.masked_fill(closed, float("-inf")), self.cfg.gap, first)
        hidden_ND = hidden_NGD[torch.arange(len(columns), device=columns.device), gap.index]
        token = choose((hidden_ND @ words.weight.T).float(), self.cfg.token, second)
        return _Insertion(gap.index, words.ids[token.index], gap.probability * token.probability)

    def _insert(self, state: _State, go: Tensor, chosen: _Insertion) -> _State:
        column = state.gaps.gather(1, chosen.gap[:, None])[:, 0]
        ids = insert(state.ids, column + 1, chosen.token)
        shifted = state.gaps + (state.gaps > column[:, None])
        gaps = insert(shifted, chosen.gap + 1, column + 1)
        grow = go.long()
        before_answer = (column < state.start - 1) & go
        return replace(
            state,
            ids=torch.where(go[:, None], ids, state.ids),
            gaps=torch.where(go[:, None], gaps, state.gaps),
            length=state.length + grow,
            gap_count=state.gap_count + grow,
            start=state.start + before_answer,
        )

    def _record(self, recorder: Recorder, state: _State, go: Tensor, chosen: _Insertion, step: int, rows: int) -> None:
        """Insertions into the answer, at positions counted from its beginning. Those into a prompt are not in the trace."""
        column = state.gaps.gather(1, chosen.gap[:, None])[:, 0]
        in_answer = go & (column >= state.start - 1)
        full = [
            value.new_zeros(rows).index_copy(0, state.rows, value)
            for value in (in_answer, column + 1 - state.start, chosen.token, chosen.probability)
        ]
        recorder.record("insert", full[0], step=step, position=full[1], token=full[2], confidence=full[3])

    def _ids(self, state: _State) -> Tensor:
        lengths = state.length - state.start
        columns = torch.arange(int(lengths.max()) if len(lengths) else 0, device=state.ids.device)
        taken = state.ids.gather(1, (columns + state.start[:, None]).clamp_(max=state.ids.shape[1] - 1))
        return taken.masked_fill(columns >= lengths[:, None], self.pad_id)

    def _answers(self, state: _State) -> list[list[int]]:
        bounds = zip(state.ids.tolist(), state.start.tolist(), state.length.tolist(), strict=True)
        return [row[start:length] for row, start, length in bounds]


def insert(x: Tensor, at: Tensor, value: Tensor) -> Tensor:
    """Put one value into each row and shift what follows it; the last column falls off.

    Args:
        x: (N, L).
        at: (N,) int64, the column of the new value.
        value: (N,).
    """
    column = torch.arange(x.shape[1], device=x.device)
    at, value = at[:, None], value[:, None].to(x.dtype)
    return torch.where(column < at, x, torch.where(column == at, value, x.roll(1, dims=1)))


def _write(final: _State, state: _State) -> _State:
    names = ("ids", "length", "start")
    return replace(final, **{n: getattr(final, n).index_copy(0, state.rows, getattr(state, n)) for n in names})
