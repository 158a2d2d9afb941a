"""Protein sequences (UniRef: Suzek et al., 2015, doi 10.1093/bioinformatics/btu739)."""

from xlm_core.tasks.proteins.sequences import preprocess

__all__ = ["preprocess"]
