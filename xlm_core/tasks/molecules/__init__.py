"""Molecules as text: SMILES, and SAFE (Noutahi et al., 2023, arXiv 2310.10773)."""

from xlm_core.tasks.molecules.fragments import preprocess_fragments
from xlm_core.tasks.molecules.safe import opened

__all__ = ["opened", "preprocess_fragments"]
