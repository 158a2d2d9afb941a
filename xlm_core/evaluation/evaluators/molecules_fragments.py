"""Molecules completed from fragments: whether they are any and hold what was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xlm_core.errors import DataError
from xlm_core.evaluation.evaluators import Row
from xlm_core.evaluation.evaluators.molecules import READERS, described, diversity, good
from xlm_core.evaluation.statistics import Estimate, bootstrap_mean, share
from xlm_core.tasks.molecules import chemistry

BITS = 1024
"""Of the fingerprints that are compared with the target's."""


class FragmentMolecules:
    """Prompts of fragments in SAFE or bracket SAFE with their answers, as `raw/...` and `repaired/...`.

    * `validity`: prompts that their answers make molecules of, over rows.
    * `success`: those in one piece that hold all given fragments at different atoms. Open bonds of fragments are taken as
      hydrogen and may have anything; stereo is not compared.
    * `quality`: different molecules of a prompt that succeed, with QED >= 0.6 and SA <= 4, over rows.
    * `uniqueness`, `diversity`, `distance`: averages over prompts. Of those that succeed for a prompt: different ones over
      all; the diversity of `xlm_core.evaluation.evaluators.molecules`; and the mean Tanimoto distance (Morgan, radius 2, 1024
      bits) of the different ones from the target. A prompt where nothing succeeds has uniqueness and diversity 0 and no
      distance; n says how many have one.

    Intervals of shares are Wilson's, the others are of the bootstrap, over prompts. Rows belong to one prompt when they have
    the same fragments, as molecules, and the same target.

    Args:
        task: put before the names, as in `linker_design/raw/success`.
        resamples: of the bootstrap.
    """

    def __init__(self, task: str | None = None, resamples: int = 1000) -> None:
        self.prefix = "" if task is None else f"{task}/"
        self.resamples = resamples

    def score(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """What `molecules` gives, of prompt and answer; `raw_success`, `repaired_success`; `fragments`, as SMILES; and
        `raw_distance`, `repaired_distance` from the target, of what succeeds.

        Raises:
            DataError: a row without a prompt that is fragments.
        """
        return [self._scored(row) for row in rows]

    def _scored(self, row: Row) -> dict[str, Any]:
        prompt = row.get("prompt")
        given = None if prompt is None else chemistry.fragments(prompt)
        if given is None:
            raise DataError(f"row {row.get('row')} has no prompt that is fragments: {prompt!r}", "data=safe_fragment has.")
        target = chemistry.molecule(row.get("target", ""))
        text = prompt + row["text"]
        found = described(text) | {"fragments": chemistry.smiles(given)}
        for form, read in READERS.items():
            molecule = read(text)
            hit = molecule is not None and chemistry.contains(molecule, given)
            found[f"{form}_success"] = hit
            compared = hit and target is not None
            found[f"{form}_distance"] = float(chemistry.distances([molecule], [target], BITS)[0, 0]) if compared else None
        return found

    def summarise(self, rows: Sequence[Row]) -> dict[str, Estimate]:
        if not rows:
            return {}
        prompts: dict[tuple[str, str | None], list[Row]] = {}
        for row in rows:
            prompts.setdefault((row["fragments"], row.get("target")), []).append(row)
        return {
            f"{self.prefix}{form}/{name}": found
            for form in READERS
            for name, found in self._of(form, rows, list(prompts.values())).items()
        }

    def _of(self, form: str, rows: Sequence[Row], prompts: Sequence[Sequence[Row]]) -> dict[str, Estimate]:
        hits = [[row for row in group if row[f"{form}_success"]] for group in prompts]
        firsts = [{row[f"{form}_smiles"]: row for row in reversed(group)} for group in hits]
        metrics = {
            "validity": share(sum(row[f"{form}_smiles"] is not None for row in rows), len(rows)),
            "success": share(sum(map(len, hits)), len(rows)),
            "quality": share(sum(good(row, form) for first in firsts for row in first.values()), len(rows)),
        }
        uniqueness = [len(first) / len(group) if group else 0.0 for first, group in zip(firsts, hits, strict=True)]
        metrics["uniqueness"] = bootstrap_mean(uniqueness, resamples=self.resamples)
        diversities = [diversity(sorted(first), 0).value for first in firsts]
        metrics["diversity"] = bootstrap_mean(diversities, resamples=self.resamples)
        distances = [[row[f"{form}_distance"] for row in first.values()] for first in firsts]
        each = [sum(group) / len(group) for group in distances if group and None not in group]
        if each:
            metrics["distance"] = bootstrap_mean(each, resamples=self.resamples)
        return metrics


evaluator = FragmentMolecules
