"""Protein sequences: how they look by themselves, and how well they fold, which another program is asked in between.

1. Predictions are measured, and written as `*.fasta` beside them.
2. A folding model (ESMFold: Lin et al., 2023, doi 10.1126/science.ade2574) or a language model of proteins reads these,
   on a machine that can, and its scores are put into a CSV, JSON or JSONL file.
3. `xlm eval --predictions FILE -d uniref50 +data.evaluators.proteins.results=SCORES` sums them up.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm_core.errors import DataError
from xlm_core.evaluation import evaluators
from xlm_core.evaluation.evaluators import Row
from xlm_core.evaluation.evaluators.generative_perplexity import variety
from xlm_core.evaluation.statistics import Estimate, bootstrap, bootstrap_mean, share

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
_SHARES = """
0.0787945 0.0151600 0.0535222 0.0668298 0.0397062 0.0695071 0.0229198 0.0590092 0.0594422 0.0963728
0.0237718 0.0414386 0.0482904 0.0395639 0.0540978 0.0683364 0.0540687 0.0673417 0.0114135 0.0304133
"""
BACKGROUND = dict(zip(RESIDUES, map(float, _SHARES.split()), strict=True))
"""Shares of the 85,956,127 residues of Swiss-Prot 50.8 (October 2006), the null model of HMMER3 (Eddy, 2011, doi
10.1371/journal.pcbi.1002195), where they are in the function p7_AminoFrequencies."""
SCORES = ("plddt", "ptm", "pae", "perplexity")


class Proteins:
    """Sequences as letters of residues.

    * `canonical`: rows of at least one residue, all of them among the 20 standard ones, over rows. Only these are exported.
    * `unique`: different sequences over rows that are not empty.
    * `length`, and `distinct_1` .. `distinct_3`, the different n-grams of a sequence over all its n-grams: averages over
      rows; of the latter, over those that are long enough.
    * `composition_entropy` and `composition_kl`, in nats: of the law of standard residues over all rows; its divergence is
      from that of the references.

    With results, also:

    * `scored`: rows with results, over rows.
    * `plddt` (0 to 100), `ptm`, `pae` (in ångström), `perplexity`: averages over the rows that have one.
    * `foldable`: pLDDT > 80 and pTM > 0.7 and PAE < 10, over all rows: one that was not folded does not fold.

    Intervals of shares are Wilson's, the others are of the bootstrap over rows.

    Args:
        results: a .csv, .json (a list of objects) or .jsonl file with an `id`, as the FASTA file names it or the row's number,
            and one or more of plddt, ptm, pae and perplexity.
        references: predictions or other JSONL rows with a `text`, whose residues are the law to compare with. Otherwise it is
            that of Swiss-Prot 50.8 (`BACKGROUND`).
        resamples: of the bootstrap.
    """

    def __init__(self, results: str | None = None, references: str | None = None, resamples: int = 1000) -> None:
        self.results = None if results is None else _results(Path(results))
        texts = None if references is None else [row["text"] for row in evaluators.read(Path(references))]
        self.law = _law(_counts(texts).sum(0)) if texts else _law(np.array([BACKGROUND[letter] for letter in RESIDUES]))
        self.resamples = resamples

    def score(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """`length`, `canonical`, and the `distinct_n`, None where there is no n-gram."""
        return [_described(row["text"]) for row in rows]

    def files(self, rows: Sequence[Row]) -> dict[str, str]:
        """The canonical rows as FASTA, named as folding scripts expect."""
        return {".fasta": "".join(f">{_name(row)}\n{row['text']}\n" for row in rows if row["canonical"])}

    def summarise(self, rows: Sequence[Row]) -> dict[str, Estimate]:
        if not rows:
            return {}
        texts = [row["text"] for row in rows if row["text"]]
        metrics = {
            "canonical": share(sum(row["canonical"] for row in rows), len(rows)),
            "unique": share(len(set(texts)), len(texts)),
        }
        metrics |= self._averages(rows, ("length", "distinct_1", "distinct_2", "distinct_3"))
        return metrics | self._composition(texts) | ({} if self.results is None else self._folding(rows, self.results))

    def _averages(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Estimate]:
        """Over the rows that have each."""
        columns = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
        return {name: bootstrap_mean(values, resamples=self.resamples) for name, values in columns.items() if values}

    def _composition(self, texts: Sequence[str]) -> dict[str, Estimate]:
        counts = _counts(texts)
        counts = counts[counts.sum(1) > 0]
        if not len(counts):
            return {}
        unknown = [letter for letter, n, p in zip(RESIDUES, counts.sum(0), self.law, strict=True) if n and not p]
        if unknown:
            raise DataError(f"the references of proteins have no {' '.join(unknown)}", "Give more of them, or none.")

        def of(statistic: Callable[[NDArray[np.float64]], float]) -> Estimate:
            return bootstrap(len(counts), lambda rows: statistic(_law(counts[rows].sum(0))), resamples=self.resamples)

        return {
            "composition_entropy": of(lambda law: -_expected(law, np.ones_like(law))),
            "composition_kl": of(lambda law: _expected(law, self.law)),
        }

    def _folding(self, rows: Sequence[Row], results: Mapping[str, Mapping[str, float]]) -> dict[str, Estimate]:
        names = {name: str(row["row"]) for row in rows for name in (_name(row), str(row["row"]))}
        strange = [name for name in results if name not in names]
        if strange:
            hint = "An id is the row's number, or the name that the FASTA file gives it."
            raise DataError(f"there are results for {strange[0]!r}, which is none of these predictions", hint)
        found = {names[name]: scores for name, scores in results.items()}
        if len(found) < len(results):
            raise DataError("a protein has results twice, by its name and by its number", "Leave one out.")
        each = [found.get(str(row["row"]), {}) for row in rows]
        metrics = {"scored": share(len(found), len(rows)), **self._averages(each, SCORES)}
        if any({"plddt", "ptm", "pae"} <= scores.keys() for scores in each):
            metrics["foldable"] = share(sum(map(_foldable, each)), len(rows))
        return metrics


evaluator = Proteins


def _described(text: str) -> dict[str, Any]:
    distinct = variety([ord(letter) for letter in text])
    del distinct["entropy"]
    return {"length": len(text), "canonical": bool(text) and set(text) <= set(RESIDUES), **distinct}


def _name(row: Row) -> str:
    return f"SEQUENCE_{row['row']}_L={len(row['text'])}"


def _counts(texts: Sequence[str]) -> NDArray[np.int64]:
    """(N, 20): of each standard residue in each text."""
    counters = [Counter(text) for text in texts]
    return np.array([[counter[letter] for letter in RESIDUES] for counter in counters], dtype=np.int64).reshape(-1, 20)


def _law(counts: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(counts / counts.sum())


def _expected(law: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The mean of log(law / other) under law, in nats."""
    here = law > 0
    return float((law[here] * np.log(law[here] / other[here])).sum())


def _foldable(scores: Mapping[str, float]) -> bool:
    return scores.get("plddt", 0) > 80 and scores.get("ptm", 0) > 0.7 and scores.get("pae", math.inf) < 10


def _results(path: Path) -> dict[str, dict[str, float]]:
    """The scores of each id."""
    if not path.is_file():
        raise DataError(f"there is no file of results {path}", "Fold the sequences of the FASTA file first.")
    found: dict[str, dict[str, float]] = {}
    try:
        for entry in _entries(path):
            scores = {name: float(entry[name]) for name in SCORES if entry.get(name) not in (None, "")}
            if str(entry["id"]) in found or not scores:
                raise ValueError(f"{entry['id']} is there twice, or without a score")
            found[str(entry["id"])] = scores
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        hint = f"It has an `id`, and numbers in {', '.join(SCORES)}. {type(error).__name__}: {error}"
        raise DataError(f"{path} is no file of results", hint) from error
    plddt = [scores["plddt"] for scores in found.values() if "plddt" in scores]
    if plddt and max(plddt) <= 1:
        raise DataError(f"pLDDT in {path} is between 0 and 1", "Multiply it by 100.")
    return found


def _entries(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        if path.suffix == ".json":
            entries: list[dict[str, Any]] = json.load(file)
            return entries
        return [json.loads(line) for line in file if line.strip()]
