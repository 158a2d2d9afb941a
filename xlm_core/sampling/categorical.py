"""Drawing from a categorical law, exactly down to its rarest outcomes.

A float32 Gumbel or exponential race over V outcomes cannot produce the largest noise that a rare winner needs, which sharpens
the law without saying so (Zheng et al., 2024, arXiv 2409.02908). Here one uniform number in float64 inverts the cumulative law.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.config import SamplingConfig
from xlm_core.sampling.truncation import truncate


class Choice(NamedTuple):
    index: Tensor  # type: ignore[assignment]  # a tuple has a method of this name
    """(...) int64."""
    probability: Tensor
    """(...) float64, of the chosen index under the law that it was drawn from."""


def categorical(logits: Tensor, uniform: Tensor) -> Choice:
    """Invert the cumulative distribution of softmax(logits).

    Args:
        logits: (..., V) float; -inf for impossible outcomes, which are never drawn.
        uniform: (...) float64 in (0, 1).
    """
    law = logits.double().softmax(-1)
    cumulative = law.cumsum(-1)
    target = uniform.double() * cumulative[..., -1]
    index = torch.searchsorted(cumulative, target[..., None], right=True).clamp_(max=logits.shape[-1] - 1)
    return Choice(index[..., 0], law.gather(-1, index)[..., 0])


def choose(logits: Tensor, cfg: SamplingConfig, uniform: Tensor) -> Choice:
    """Draw with temperature and truncation, or take the most probable when the config leaves no choice.

    Args:
        logits: (..., V) float.
        uniform: (...) float64 in (0, 1); not used by a greedy config.
    """
    if cfg.temperature == 0 or cfg.top_k == 1:
        law = logits.double().softmax(-1)
        probability, index = law.max(-1)
        return Choice(index, probability)
    return categorical(truncate(logits.double() / cfg.temperature, cfg.top_k, cfg.top_p), uniform)
