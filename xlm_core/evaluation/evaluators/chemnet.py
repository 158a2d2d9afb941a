"""How alike sets of molecules look to ChemNet (Preuer et al., 2018, doi 10.1021/acs.jcim.8b00234), as its authors ship it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xlm_core.errors import DataError
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.statistics import Estimate, bootstrap

RESAMPLES = 20
"""Of the bootstrap: each takes apart a matrix of 512 columns."""
BATCH = 128
LENGTH = 350
"""Of what ChemNet reads: SMILES and their end. Longer ones are cut."""


class ChemNet:
    """The network, and how it sees the references.

    Args:
        references: canonical SMILES, at least two.

    Raises:
        ConfigError: fcd is not installed.
        DataError: fewer references.
    """

    def __init__(self, references: Sequence[str]) -> None:
        package = evaluators.needs("fcd", "fcd")
        self.encode, self.network = evaluators.needs("fcd.utils", "fcd").get_one_hot, package.load_ref_model()
        if len(references) < 2:
            raise DataError("the Fréchet ChemNet distance needs two references or more", "Give a file of more molecules.")
        self.references = self.seen(references)

    def distances(self, smiles: Sequence[str]) -> dict[str, Estimate]:
        """Of at least two canonical SMILES from the references: `fcd`, and `fcd_score`, exp(-fcd / 5) (GuacaMol: Brown et al.,
        2019, doi 10.1021/acs.jcim.8b00839), which is 1 for equal sets.

        The standard error is that of drawing these molecules. There is no interval: in a resample molecules are repeated,
        which puts it farther away than it should be.
        """
        here = self.seen(smiles)
        found = bootstrap(len(here), lambda rows: frechet(here[rows], self.references), resamples=RESAMPLES)
        distance = replace(found, interval=None)
        return {"fcd": distance, "fcd_score": distance.scaled(-0.2).exp()}

    @torch.inference_mode()
    def seen(self, smiles: Sequence[str]) -> NDArray[np.float64]:
        """(N, 512): ChemNet's last hidden layer."""
        batches = (smiles[start : start + BATCH] for start in range(0, len(smiles), BATCH))
        return np.concatenate([self.network(self._encoded(batch)).double().numpy() for batch in batches])

    def _encoded(self, smiles: Sequence[str]) -> Any:
        """(B, 35, 350) float32: one-hot, divided by the 35 symbols, as its authors do."""
        one_hot = np.stack([self.encode(text[: LENGTH - 1], LENGTH) for text in smiles]) / 35
        return torch.from_numpy(one_hot).float().transpose(1, 2)


def frechet(ones: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """The squared Fréchet distance of the normal laws with the means and covariances of the rows of (N, D) and (M, D):

    |m - n|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson and Landau, 1982, doi 10.1016/0047-259X(82)90077-X)

    With A = R'R and B = S'S, the eigenvalues of A B are the squared singular values of R S': no root of a matrix that may
    have no inverse is needed.
    """
    apart = ones.mean(0) - others.mean(0)
    r, s = (np.linalg.qr(rows - rows.mean(0), mode="r") / np.sqrt(len(rows) - 1) for rows in (ones, others))
    common = np.linalg.svd(r @ s.T, compute_uv=False).sum()
    return max(0.0, float(apart @ apart + (r * r).sum() + (s * s).sum() - 2 * common))
