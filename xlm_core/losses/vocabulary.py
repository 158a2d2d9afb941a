"""The vocabulary projection fused with log-sum-exp: neither all logits of a batch nor their gradient ever exist at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_ELEMENTS = 1 << 24
"""Most logits that exist at once."""


class _LinearLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        rows = max(1, CHUNK_ELEMENTS // weight.shape[0])
        parts = [_logits(part, weight).logsumexp(-1) for part in hidden.split(rows)]
        result = torch.cat(parts)
        ctx.save_for_backward(hidden, weight, result)
        ctx.rows = rows
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        hidden, weight, result = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=result.dtype)
        for start in range(0, len(hidden), ctx.rows):
            part = slice(start, start + ctx.rows)
            # d lse / d logits is the softmax, here already times the incoming gradient of the row.
            share = (_logits(hidden[part], weight) - result[part, None]).exp_().mul_(grad[part, None]).to(hidden.dtype)
            grad_hidden[part] = share @ weight
            grad_weight += share.T @ hidden[part]
        return grad_hidden, grad_weight.to(weight.dtype)


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    logits = hidden @ weight.T
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def linear_logsumexp(hidden: Tensor, weight: Tensor) -> Tensor:
    """log sum_v exp(hidden . weight_v), accumulated in float32.

    Args:
        hidden: (N, D) float.
        weight: (V, D) float, the vocabulary head.

    Returns:
        (N,) float32, differentiable in both.
    """
    hidden, weight = _same_dtype(hidden, weight)
    result: Tensor = _LinearLogSumExp.apply(hidden, weight)
    return result


def linear_token_logits(hidden: Tensor, weight: Tensor, tokens: Tensor) -> Tensor:
    """hidden_n . weight_{tokens_n}: the logits of given tokens only.

    Args:
        hidden: (N, D) float.
        weight: (V, D) float.
        tokens: (N,) int64.

    Returns:
        (N,) float32.
    """
    hidden, weight = _same_dtype(hidden, weight)
    wide = torch.promote_types(hidden.dtype, torch.float32)
    # Exact products, then the one rounding that the matrix product of all logits has: otherwise, in bfloat16, a token's logit
    # would not be the one inside the log-sum-exp, and a confident -log p could be negative.
    chosen = F.embedding(tokens, weight)  # the gradient of weight[tokens] is summed in any order by several threads
    return (hidden.to(wide) * chosen.to(wide)).sum(-1).to(hidden.dtype).to(wide)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, tokens: Tensor) -> Tensor:
    """-log softmax(hidden W^T)[tokens], one value a row, without materialising the logits.

    Args:
        hidden: (N, D) float.
        weight: (V, D) float.
        tokens: (N,) int64.

    Returns:
        (N,) float32, in nats.
    """
    return linear_logsumexp(hidden, weight) - linear_token_logits(hidden, weight, tokens)


def _same_dtype(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    return hidden.to(dtype), weight.to(dtype)
