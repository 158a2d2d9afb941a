"""How much of the grammar generated sentences show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Any

import numpy as np

from xlm_core.evaluation.evaluators import Row
from xlm_core.evaluation.statistics import Estimate, mean
from xlm_core.tasks.cfg.grammar import DEPTH, G1, Grammar


class Coverage:
    """Derives each text. Special tokens were taken out of the texts before.

    Metrics:

    * `cfg_grammatical`, `cfg_in_language`: the share of rows that have a derivation, and that have one of the data's depth.
    * `cfg_rule_coverage`: the rules that any row's shallowest derivation uses, over those of the grammar. Rules that only give
      words do not count. All sentences of the data use 8 of 11.
    * `cfg_distinct`: different texts over rows. `cfg_templates`: different collections of rules over grammatical rows.
    * `cfg_derivations`, `cfg_ambiguous`: the mean number of derivations of grammatical rows, and the share that has several.
    """

    grammar: Grammar = G1

    def score(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """`cfg_depth`, None without a derivation; `cfg_derivations`, how many; `cfg_rules`, those of the shallowest, sorted."""
        found = [self.grammar.derivation(row["text"].split()) for row in rows]
        phrasal = self.grammar.phrasal
        return [
            {"cfg_depth": None, "cfg_derivations": 0, "cfg_rules": []}
            if one is None
            else {
                "cfg_depth": one.depth,
                "cfg_derivations": one.count,
                "cfg_rules": sorted(rule for rule in one.rules if rule in phrasal),
            }
            for one in found
        ]

    def summarise(self, rows: Sequence[Row]) -> dict[str, Estimate]:
        good = [row for row in rows if row["cfg_depth"] is not None]
        columns = {
            "cfg_grammatical": [float(row["cfg_depth"] is not None) for row in rows],
            "cfg_in_language": [float(row["cfg_depth"] is not None and row["cfg_depth"] <= DEPTH) for row in rows],
            "cfg_derivations": [float(row["cfg_derivations"]) for row in good],
            "cfg_ambiguous": [float(row["cfg_derivations"] > 1) for row in good],
        }
        metrics = {name: known for name, values in columns.items() if (known := mean(values)) is not None}
        if rows:
            metrics["cfg_distinct"] = variety([{row["text"]} for row in rows])
            metrics["cfg_rule_coverage"] = variety([set(row["cfg_rules"]) for row in rows], len(self.grammar.phrasal))
        if good:
            metrics["cfg_templates"] = variety([{tuple(row["cfg_rules"])} for row in good])
        return metrics


evaluator = Coverage


def variety(rows: Sequence[Collection[Hashable]], of: int | None = None) -> Estimate:
    """How many different things n rows show, over `of` or else n, with the jackknife's standard error (Efron & Stein, 1981).

    The bootstrap would not do: it repeats rows, and what is repeated is not new.
    """
    seen = Counter(thing for row in rows for thing in row)
    n = len(rows)
    if n < 2:
        return Estimate(len(seen) / (of or n), None, n)
    without = np.array([len(seen) - sum(seen[thing] == 1 for thing in row) for row in rows]) / (of or n - 1)
    return Estimate(len(seen) / (of or n), math.sqrt((n - 1) * float(without.var())), n)
