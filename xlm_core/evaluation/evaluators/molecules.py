"""Molecules made from nothing: whether they are any, how varied, how new, how drug-like, and how easy to make."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm_core.errors import DataError
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.evaluators import Row
from xlm_core.evaluation.evaluators.chemnet import ChemNet
from xlm_core.evaluation.statistics import Estimate, bootstrap, bootstrap_mean, share
from xlm_core.tasks.molecules import chemistry

READERS = {"raw": chemistry.molecule, "repaired": chemistry.repaired}
"""How a text is read: as it stands, or repaired."""
DRUG_LIKE, EASY = 0.6, 4.0
"""Least QED and greatest SA of a molecule of quality (GenMol: Lee et al., 2025, arXiv 2501.06158)."""
BITS = 2048
"""Of the fingerprints that diversity compares."""


class Molecules:
    """SMILES, SAFE or bracket SAFE, each metric as `raw/...`, of the texts as they stand, and as `repaired/...`.

    * `validity`: molecules over rows. `raw/connected`: those in one piece over rows; repaired, all are.
    * `uniqueness`: different molecules over valid rows, by canonical SMILES with stereo.
    * `novelty`: of the different molecules, the share that is not among the references; only where these are given.
    * `diversity`: 1 - Tanimoto similarity of Morgan fingerprints (radius 2, 2048 bits), averaged over all pairs of
      different molecules; 0 when there are fewer than two.
    * `qed`, `sa`: averages over valid rows.
    * `quality`: different molecules with QED >= 0.6 and SA <= 4, over rows.
    * `fcd`, `fcd_score`: the Fréchet ChemNet distance of the different molecules, if there are two, from those of
      `fcd_references`, and exp(-fcd / 5); only where these are given. Sets of different sizes cannot be compared by it: the
      fewer molecules, the farther.

    Intervals of shares are Wilson's, the others are of the bootstrap. Without a valid row, what averages over valid ones is
    left out, and shares and diversity are 0.

    Args:
        references: molecules that were trained on, in a .jsonl, .csv or .parquet file, or one a line.
        column: of `references` and `fcd_references`, the one that holds them.
        fcd_references: such a file of molecules to be like, often those of the test split.
        fcd_rows: how many of them are read, from the first.
        resamples: of the bootstrap. That of the Fréchet ChemNet distance has 20.

    Raises:
        ConfigError: rdkit is not installed, or with `fcd_references` fcd is not.
        DataError: a file of references is none.
    """

    def __init__(
        self,
        references: str | None = None,
        column: str = "text",
        fcd_references: str | None = None,
        fcd_rows: int = 10_000,
        resamples: int = 1000,
    ) -> None:
        self.references = None if references is None else _column(Path(references), column)
        self.alike: list[str] | None = None
        if fcd_references is not None:
            evaluators.needs("fcd", "fcd")
            self.alike = _column(Path(fcd_references), column)[:fcd_rows]
        self.resamples = resamples

    def score(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """`raw_smiles`, canonical or None, and of what is valid `raw_pieces`, `raw_qed`, `raw_sa`; `repaired_...` alike."""
        return [described(row["text"]) for row in rows]

    def summarise(self, rows: Sequence[Row]) -> dict[str, Estimate]:
        if not rows:
            return {}
        known = None if self.references is None else set(_canonical(self.references))
        chemnet = None if self.alike is None else ChemNet(_canonical(self.alike))
        return {f"{form}/{name}": found for form in READERS for name, found in self._of(form, rows, known, chemnet).items()}

    def _of(self, form: str, rows: Sequence[Row], known: set[str] | None, chemnet: ChemNet | None) -> dict[str, Estimate]:
        valid = [row for row in rows if row[f"{form}_smiles"] is not None]
        first = {row[f"{form}_smiles"]: row for row in reversed(valid)}
        metrics = {"validity": share(len(valid), len(rows))}
        if form == "raw":
            metrics["connected"] = share(sum(row["raw_pieces"] == 1 for row in valid), len(rows))
        metrics["uniqueness"] = share(len(first), len(valid))
        if known is not None:
            metrics["novelty"] = share(len(first.keys() - known), len(first))
        metrics["diversity"] = diversity(sorted(first), self.resamples)
        metrics["quality"] = share(sum(good(row, form) for row in first.values()), len(rows))
        for name in ("qed", "sa") if valid else ():
            metrics[name] = bootstrap_mean([row[f"{form}_{name}"] for row in valid], resamples=self.resamples)
        if chemnet is not None and len(first) > 1:
            metrics |= chemnet.distances(sorted(first))
        return metrics


evaluator = Molecules


def described(text: str) -> dict[str, Any]:
    """What `Molecules.score` gives of a text."""
    found: dict[str, Any] = {}
    for form, read in READERS.items():
        molecule = read(text)
        values: tuple[Any, ...] = (None,) * 4
        if molecule is not None:
            values = (chemistry.smiles(molecule), *(f(molecule) for f in (chemistry.pieces, chemistry.qed, chemistry.sa)))
        found |= zip((f"{form}_{name}" for name in ("smiles", "pieces", "qed", "sa")), values, strict=True)
    return found


def good(row: Row, form: str) -> bool:
    """Whether a valid row's molecule is of quality."""
    return bool(row[f"{form}_qed"] >= DRUG_LIKE and row[f"{form}_sa"] <= EASY)


def diversity(smiles: Sequence[str], resamples: int) -> Estimate:
    """Of different molecules. A molecule that a resample has twice is not compared with itself: pairs are of different ones."""
    molecules = [found for text in smiles if (found := chemistry.molecule(text)) is not None]
    n = len(molecules)
    if n < 2:
        return Estimate(0.0, None, n)
    apart = chemistry.distances(molecules, molecules, BITS)

    def value(rows: NDArray[np.int64]) -> float:
        times = np.bincount(rows, minlength=n).astype(np.float32)
        pairs = len(rows) ** 2 - float(times @ times)
        return float(times @ apart @ times) / pairs if pairs else float("nan")

    return bootstrap(n, value, resamples=resamples)


def _canonical(texts: Sequence[str]) -> list[str]:
    found = [chemistry.smiles(molecule) for text in texts if (molecule := chemistry.molecule(text)) is not None]
    if not found:
        raise DataError("no reference is a molecule", "They are SMILES or SAFE; evaluator argument `column` says where.")
    return found


def _column(path: Path, column: str) -> list[str]:
    if not path.is_file():
        raise DataError(f"there is no file of references {path}", "Give one of molecules, one a line.")
    try:
        return [row[column] for row in _table(path, column)]
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} has no molecules in a column {column!r}", f"{type(error).__name__}: {error}") from error


def _table(path: Path, column: str) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).select([column]).to_pylist()
        return rows
    with path.open(newline="", encoding="utf-8") as lines:
        if path.suffix == ".csv":
            return list(csv.DictReader(lines))
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in lines]
        return [{column: line.split()[0]} for line in lines if line.strip()]
