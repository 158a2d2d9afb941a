"""The loss of a network whose law is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from xlm_family_minimal.loss import MinimalLoss

LAW = {7: 0.5, 8: 0.25, 9: 0.125, 3: 0.125}
"""EOS is 3, the mask is 2."""


def test_it_is_the_mean_of_minus_log_p_over_masks(collate: Callable, unigram: Callable) -> None:
    texts = [[7], [8, 8], [9, 7, 8], []] * 8
    batch = collate("lm", "train", [{"input_ids": text} for text in texts])
    found = MinimalLoss(unigram(LAW))(batch, seed=0)
    rows = []
    for text, canvas in zip(texts, batch["input_ids"].tolist(), strict=True):
        clean = [*text, 3, 3, 3, 3][:4]
        rows.append([-math.log(LAW[token]) for token, seen in zip(clean, canvas, strict=True) if seen == 2])
    assert float(found.weight) == sum(map(len, rows))
    assert float(found.loss) == pytest.approx(sum(map(sum, rows)) / sum(map(len, rows)), rel=1e-5)
    assert found.terms["loss"].total.tolist() == pytest.approx([sum(row) for row in rows], rel=1e-5)
    assert found.terms["loss"].count.tolist() == [len(row) for row in rows]
