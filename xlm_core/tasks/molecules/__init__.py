"""Molecules as text: SMILES, SAFE (Noutahi et al., 2023, arXiv 2310.10773) and bracket SAFE.

What needs rdkit is in `chemistry`, which nothing here imports before it is used.
"""

from xlm_core.tasks.molecules.bracket import bracketed, plain
from xlm_core.tasks.molecules.fragments import preprocess_fragments
from xlm_core.tasks.molecules.rows import preprocess
from xlm_core.tasks.molecules.safe import opened
from xlm_core.tasks.molecules.validity import valid

__all__ = ["bracketed", "opened", "plain", "preprocess", "preprocess_fragments", "valid"]
