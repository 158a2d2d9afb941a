"""What would be written at masks, and how sure the network is of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xlm_core.config import SamplingConfig
from xlm_core.losses.vocabulary import CHUNK_ELEMENTS
from xlm_core.sampling.categorical import categorical
from xlm_core.sampling.confidence import confidence
from xlm_core.sampling.truncation import truncate


class Words(NamedTuple):
    """What may be written."""

    ids: Tensor
    """(W,) int64."""
    weight: Tensor
    """(W, D): their rows of the vocabulary head."""
    eos: int


class Drawn(NamedTuple):
    token: Tensor
    """(M,) int64."""
    probability: Tensor
    """(M,) float64, of the token under the law that it was drawn from."""
    confidence: Tensor
    """(M,) float64: larger is surer."""


def draw(hidden_MD: Tensor, may_end: Tensor, words: Words, cfg: SamplingConfig, order: str, uniform: Tensor) -> Drawn:
    """Draw a token at each mask, as the official decoder does.

    The law is softmax(logits / temperature), cut to `top_p` and then to `top_k`; at temperature 0 logits are not divided, and
    the most probable token is taken. Confidences are of that law: `prob_diff` and `entropy` as in core, `top_prob` the
    probability of the token that was drawn.

    Args:
        hidden_MD: (M, D) the states that the masks are predicted from.
        may_end: (M,) bool: whether EOS may be written.
        order: of `xlm_core.sampling.confidence`; with `random` the confidence is 0.
        uniform: (M,) float64 in (0, 1).
    """
    rows = max(1, CHUNK_ELEMENTS // len(words.ids))
    pieces = zip(hidden_MD.split(rows), may_end.split(rows), uniform.split(rows), strict=True)
    parts = [_draw(_logits(hidden, ends, words), cfg, order, u) for hidden, ends, u in pieces]
    index, probability, sureness = (torch.cat(values) for values in zip(*parts, strict=True))
    return Drawn(words.ids[index], probability, sureness)


def _logits(hidden_MD: Tensor, may_end: Tensor, words: Words) -> Tensor:
    logits = hidden_MD @ words.weight.T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.masked_fill((words.ids == words.eos) & ~may_end[:, None], -torch.inf)


def _draw(logits: Tensor, cfg: SamplingConfig, order: str, uniform: Tensor) -> Drawn:
    if cfg.temperature > 0:
        logits = logits.double() / cfg.temperature
    logits = truncate(truncate(logits, top_p=cfg.top_p), top_k=cfg.top_k)
    if cfg.temperature > 0:
        index, probability = categorical(logits, uniform)
    else:
        probability, index = logits.softmax(-1).max(-1)
    if order == "top_prob":
        sureness = probability
    elif order == "random":
        sureness = torch.zeros_like(probability)
    else:
        sureness = confidence(logits, order)
    return Drawn(index, probability.double(), sureness.double())
