"""Results of several runs side by side. What cannot be compared is left out, and said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from xlm_core.evaluation.statistics import Estimate

LIKELIHOODS = ("nll", "perplexity", "bits_per_token", "bits_per_byte")
"""What a likelihood is reported as, without the `_bound` of one that is a bound."""


class Comparison(NamedTuple):
    """Metrics of runs."""

    metrics: dict[str, dict[str, Estimate]]
    """By metric, then by run; a run without the metric is not there."""
    refused: dict[str, str]
    """Why the other metrics are not compared."""


def compared(results: Mapping[str, Mapping[str, Any]]) -> Comparison:
    """Put results of `xlm_core.results.read` side by side, by the names of their runs.

    Losses are compared within a family, likelihoods where the policies of their data are equal. Bits per byte do not need equal
    tokenizers, as long as the bytes are those of the text.
    """
    metrics: dict[str, dict[str, Estimate]] = {}
    for run, result in results.items():
        for name, estimate in result["metrics"].items():
            metrics.setdefault(name, {})[run] = _estimate(estimate)
    refused = {name: why for name, of in metrics.items() if (why := _refusal(name, [results[run] for run in of]))}
    return Comparison({name: of for name, of in metrics.items() if name not in refused}, refused)


def differences(policies: Sequence[Mapping[str, Any] | None], *, but: Sequence[str] = ()) -> list[str]:
    """The facets in which policies differ, but some that do not matter.

    Args:
        policies: of results; None where one is not known, which differs from all that are.
        but: names of facets that may differ.
    """
    known = [policy for policy in policies if policy is not None]
    if not known:
        return []
    facets = [name for name in known[0] if name != "hash" and name not in but]
    if len(known) < len(policies):
        return facets
    return [name for name in facets if any(policy.get(name) != known[0][name] for policy in known)]


def _refusal(metric: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Why a metric of these results is not to be compared; empty when it is."""
    term = metric.rpartition("/")[2].removesuffix("_bound")
    families = sorted({str(result["family"]) for result in results})
    if term == "loss" and len(families) > 1:
        return f"each of {', '.join(families)} has a loss of its own"
    if term not in ("loss", *LIKELIHOODS):
        return ""
    but = ("tokenizer",) if term == "bits_per_byte" else ()
    found = differences([result["policy"] for result in results], but=but)
    return f"the runs differ in {', '.join(found)}" if found else ""


def _estimate(kept: Mapping[str, Any]) -> Estimate:
    interval = kept.get("interval")
    return Estimate(kept["value"], kept["stderr"], kept["n"], tuple(interval) if interval else None)
