"""MAUVE, how alike the laws of generated and human texts are (Pillutla et al., 2021, arXiv 2102.01454): the authors' own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xlm_core.errors import ConfigError, DataError
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.evaluators import Row
from xlm_core.evaluation.evaluators.judges import Judge, Reader
from xlm_core.evaluation.statistics import Estimate, bootstrap

FEW = 500
"""Texts below which the authors call the figure unreliable."""


class Mauve:
    """`mauve`, of the rows' texts against human ones: their targets, or a file. Its uncertainty is that of drawing the texts.

    Features are the judge's last hidden state at a text's last token. Texts without a token are left out on both sides.

    Args:
        judge, revision, max_length, batch_tokens, device: of `xlm_core.evaluation.evaluators.judges.Judge`.
        references: a JSONL file of rows with a `text`, instead of the rows' `target`.
        seed: of the clustering.
        resamples: of the bootstrap; 0 for none.
    """

    def __init__(
        self,
        judge: str = "gpt2-large",
        revision: str | None = None,
        max_length: int = 256,
        batch_tokens: int = 4096,
        device: str = "auto",
        references: str | None = None,
        seed: int = 25,
        resamples: int = 20,
    ) -> None:
        self.package = evaluators.needs("mauve", "mauve")
        self.judge = Judge(judge, revision, max_length, batch_tokens, device)
        self.references = None if references is None else evaluators.read(Path(references))
        self.seed, self.resamples = seed, resamples

    def score(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        return [{} for _ in rows]

    def summarise(self, rows: Sequence[Row]) -> dict[str, Estimate]:
        human = [row["text"] for row in self.references] if self.references else _targets(rows)
        reader = self.judge.load()
        q, p = (_features(reader, texts) for texts in ([row["text"] for row in rows], human))
        if min(len(p), len(q)) < 2:
            raise DataError(f"MAUVE needs texts to compare, and has {len(q)} generated and {len(p)} human ones", "Draw more.")
        return {"mauve": self._estimate(p, q)}

    def _estimate(self, p: NDArray[np.float32], q: NDArray[np.float32]) -> Estimate:
        """Rows 0 .. len(p) - 1 are human and the rest generated; a resample draws as many of each again."""
        both = np.concatenate([p, q])

        def value(rows: NDArray[np.int64]) -> float:
            return self._mauve(both[rows[rows < len(p)]], both[rows[rows >= len(p)]])

        found = bootstrap(len(both), value, resamples=self.resamples)
        return Estimate(found.value, found.stderr, len(q), found.interval)

    def _mauve(self, p: NDArray[np.float32], q: NDArray[np.float32]) -> float:
        return float(self.package.compute_mauve(p_features=p, q_features=q, seed=self.seed, verbose=False).mauve)


evaluator = Mauve


def _targets(rows: Sequence[Row]) -> list[str]:
    found = [row["target"] for row in rows if "target" in row]
    if not found:
        hint = "Name a file of human texts: data.evaluators.mauve.references=FILE, JSON lines with a `text`."
        raise ConfigError("MAUVE compares with human texts, and the predictions have no targets", hint)
    return found


@torch.inference_mode()
def _features(reader: Reader, texts: Sequence[str]) -> NDArray[np.float32]:
    """(N, D): of the N texts that have a token."""
    found: dict[int, NDArray[np.float32]] = {}
    for places, tokens_BL, real_BL in reader.batches(reader.ids(texts)):
        out = reader.model(input_ids=tokens_BL, attention_mask=real_BL.long(), use_cache=False, output_hidden_states=True)
        last = (real_BL.sum(-1) - 1)[:, None, None].expand(-1, 1, out.hidden_states[-1].shape[-1])
        found |= zip(places, out.hidden_states[-1].gather(1, last)[:, 0].float().cpu().numpy(), strict=True)
    return np.stack([found[place] for place in sorted(found)]) if found else np.zeros((0, 1), np.float32)
