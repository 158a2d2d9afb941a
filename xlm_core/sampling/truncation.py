"""Top-k and nucleus truncation with the meanings of Hugging Face's logits processors."""

from __future__ import annotations

from torch import Tensor


def truncate(logits: Tensor, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Set the logits of outcomes that are left out to -inf: first top-k, then the nucleus of what is left.

    Args:
        logits: (..., V) float.
        top_k: keep the k largest (and what ties with the k-th); everything when None or at least V.
        top_p: keep the most probable outcomes up to and including the one that makes their mass reach top_p (Holtzman et
            al., 2020, arXiv 1904.09751); everything when None or 1.
    """
    if top_k is not None and top_k < logits.shape[-1]:
        smallest = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, float("-inf"))
    if top_p is not None and top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        law = ordered.softmax(-1)
        beyond = law.cumsum(-1) - law >= top_p  # the mass before an outcome: exclusive, so the crossing one stays
        beyond[..., 0] = False
        logits = logits.masked_fill(beyond.scatter(-1, order, beyond), float("-inf"))
    return logits
