"""How much of what an approximate decoder writes is what the exact one writes."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn import functional as F

from xlm_core.protocols import Prediction


@dataclass(frozen=True)
class Agreement:
    """Two decodings of the same rows, compared column by column; a missing token is another token."""

    rows: int
    equal_rows: int
    tokens: int
    equal_tokens: int
    evaluations: int
    """Of the approximate decoder, summed over rows."""
    exact_evaluations: int

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(*(one + more for one, more in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __str__(self) -> str:
        share = 100 * self.equal_tokens / max(self.tokens, 1)
        return (
            f"{self.equal_tokens} of {self.tokens} tokens ({share:.1f} %) and {self.equal_rows} of {self.rows} rows as in "
            f"exact decoding, with {self.evaluations} evaluations instead of {self.exact_evaluations}"
        )


NOTHING = Agreement(0, 0, 0, 0, 0, 0)


def agreement(approximate: Prediction, exact: Prediction, pad_id: int) -> Agreement:
    """Compare predictions of one batch."""
    width = max(approximate.ids.shape[1], exact.ids.shape[1])
    one, other = (F.pad(p.ids, (0, width - p.ids.shape[1]), value=pad_id) for p in (approximate, exact))
    present = (one != pad_id) | (other != pad_id)
    differs = one != other
    return Agreement(
        rows=len(one),
        equal_rows=int((~differs.any(-1)).sum()),
        tokens=int(present.sum()),
        equal_tokens=int((present & ~differs).sum()),
        evaluations=int(approximate.nfe.sum()),
        exact_evaluations=int(exact.nfe.sum()),
    )
