"""What is compared, and what is refused."""

from __future__ import annotations

import pytest

from xlm_core.evaluation.comparison import compared, differences

FACETS = {"text": {"name": "t"}, "tokenizer": "a", "bytes": "text", "wrapping": {"length": 8}, "specials": ["bos", "eos"]}
POLICY = {**FACETS, "hash": "h"}


def result(family, policy, **metrics):
    return {
        "family": family,
        "policy": policy,
        "metrics": {
            f"test/{name}": {"value": value, "stderr": 0.1, "n": 9, "interval": None} for name, value in metrics.items()
        },
    }


def test_equal_policies_are_compared_and_a_bound_is_not_the_same_metric_as_an_exact_value():
    exact = result("arlm", POLICY, perplexity=8.0, bits_per_byte=1.5, exact_match=0.5)
    bound = result("mdlm", POLICY | {"hash": "h"}, perplexity_bound=9.0, bits_per_byte_bound=1.6, exact_match=0.25)
    found = compared({"a": exact, "b": bound})
    assert not found.refused
    assert {name: {run: e.value for run, e in of.items()} for name, of in found.metrics.items()} == {
        "test/perplexity": {"a": 8.0},
        "test/bits_per_byte": {"a": 1.5},
        "test/exact_match": {"a": 0.5, "b": 0.25},
        "test/perplexity_bound": {"b": 9.0},
        "test/bits_per_byte_bound": {"b": 1.6},
    }


@pytest.mark.parametrize(
    "facet, other, refused",
    [
        ("tokenizer", "b", {"test/perplexity", "test/nll"}),  # bytes are the same whatever the tokenizer
        ("bytes", "decoded", {"test/perplexity", "test/nll", "test/bits_per_byte"}),
        ("wrapping", {"length": 9}, {"test/perplexity", "test/nll", "test/bits_per_byte"}),
        ("specials", ["eos"], {"test/perplexity", "test/nll", "test/bits_per_byte"}),
    ],
)
def test_likelihoods_of_different_policies_are_refused_and_the_facet_is_named(facet, other, refused):
    values = {"perplexity": 8.0, "nll": 2.0, "bits_per_byte": 1.5, "exact_match": 0.5}
    runs = {"a": result("x", POLICY, **values), "b": result("x", POLICY | {facet: other, "hash": "i"}, **values)}
    found = compared(runs)
    assert found.refused.keys() == refused
    assert all(facet in why for why in found.refused.values())
    assert found.metrics.keys() == {f"test/{name}" for name in values} - refused


def test_a_policy_that_is_not_known_is_like_no_other():
    assert differences([POLICY, None]) == list(FACETS)
    found = compared({"a": result("x", POLICY, perplexity=1.0), "b": result("x", None, perplexity=1.0)})
    assert found.refused.keys() == {"test/perplexity"}


def test_losses_are_compared_within_a_family_only():
    assert "test/loss" in compared({"a": result("x", POLICY, loss=1.0), "b": result("y", POLICY, loss=1.0)}).refused
    assert not compared({"a": result("x", POLICY, loss=1.0), "b": result("x", POLICY, loss=1.0)}).refused
