"""Which masked positions a decoder reveals at a step: how sure the network is of each, in what order, and how many of them."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Order = Literal["random", "top_prob", "prob_diff", "entropy"]
ORDERS: tuple[Order, ...] = get_args(Order)
"""`random` needs no network. The others are the confidences of `confidence`."""


def confidence(logits: Tensor, order: str) -> Tensor:
    """How sure the law p = softmax(logits) is of what it says; larger is surer.

    * `top_prob`: the largest probability (Chang et al., 2022, arXiv 2202.04200).
    * `prob_diff`: the largest minus the second largest (Kim et al., 2025, arXiv 2502.06768).
    * `entropy`: minus the entropy of p, in nats.

    Args:
        logits: (..., V) float; -inf for impossible outcomes, and at least one that is not.

    Returns:
        (...) float32, or float64 for float64 logits.

    Raises:
        ValueError: an order that is no confidence.
    """
    law = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
    if order == "top_prob":
        return law.amax(-1)
    if order == "prob_diff":
        best = law.topk(min(2, law.shape[-1]), dim=-1).values
        return best[..., 0] - best[..., 1] if law.shape[-1] > 1 else best[..., 0]
    if order == "entropy":
        entropy: Tensor = torch.special.entr(law).sum(-1)
        return -entropy
    raise ValueError(f"{order!r} is not one of {', '.join(ORDERS[1:])}")


def error(sureness: Tensor, order: str) -> Tensor:
    """What `threshold` adds up: one minus the (difference of) probability, or the entropy; 0 where the network is certain.

    Args:
        sureness: (...) what `confidence` gave for this order.
    """
    return (-sureness if order == "entropy" else 1 - sureness).clamp(min=0)


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise: the k largest of `scores + gumbel(u)` are k draws without replacement from softmax(scores).

    Args:
        uniform: (...) float64 in (0, 1): in float32 the largest noises, which rare winners need, do not exist.
    """
    return -(-uniform.double().log()).log()


def even_share(remaining: Tensor, steps_left: int) -> Tensor:
    """How many positions to reveal now so that `steps_left` steps reveal all: never more of them in a later step, never none
    while any remain, and in the last step exactly those that are left.

    Args:
        remaining: (B,) int64, masked positions.
        steps_left: this step included; counts as 1 when less.

    Returns:
        (B,) int64.
    """
    return -(-remaining // max(steps_left, 1))


def select(
    scores: Tensor, candidates: Tensor, least: Tensor, *, errors: Tensor | None = None, threshold: float = 0.0
) -> Tensor:
    """The positions to reveal: the candidates with the largest scores, ties from the left.

    As many are taken as `least` says. With errors, more are when the network is sure of them: one more in the same order, as
    long as the errors of those before it add up to less than the threshold.

    Args:
        scores: (B, L) float, finite on candidates.
        candidates: (B, L) bool.
        least: (B,) int64; all candidates of a row that has no more.
        errors: (B, L) float, at least 0.
        threshold: read where there are errors.

    Returns:
        (B, L) bool.
    """
    columns = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
    order = scores.masked_fill(~candidates, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    ranks = torch.empty_like(order).scatter_(-1, order, columns)
    count = least
    if errors is not None:
        ordered = errors.masked_fill(~candidates, 0).gather(-1, order)
        before = ordered.cumsum(-1) - ordered
        count = torch.maximum(least, (before < threshold).sum(-1))
    return candidates & (ranks < count[:, None])
