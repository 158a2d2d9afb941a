from functools import cache
from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy import stats

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import ConfigError, DataError
from xlm_core.protocols import Prediction
from xlm_core.tasks.coloring import generate, preprocess, valid

TOKENIZER = tokenizers.build(TokenizerConfig(kind="numbers", size=6))
SIZES = {"train": 1500, "validation": 50, "test": 200}
PAIRS = list(combinations(range(8), 2))


@cache
def rows(split, **arguments):
    made = generate(split, **{"vertices": 8, "density": 0.5, **SIZES, **arguments})
    return list(zip(*(made[name].to_pylist() for name in ("input", "target", "given")), strict=True))


def proper(edges, colours):
    ends = combinations(range(len(colours)), 2)
    return all(colours[one] != colours[other] for (one, other), edge in zip(ends, edges, strict=True) if edge == 2)


def colourings(edges, vertices=8):
    """All proper ones, by trying every one there is."""
    return [colours for colours in product((3, 4, 5), repeat=vertices) if proper(edges, colours)]


@pytest.mark.parametrize("vertices", [8, 10])
def test_targets_are_proper_colourings(vertices):
    for edges, colours, _ in rows("train", vertices=vertices):
        assert len(edges) == vertices * (vertices - 1) // 2
        assert len(colours) == vertices
        assert set(edges) <= {1, 2}
        assert set(colours) <= {3, 4, 5}
        assert proper(edges, colours)


def test_the_law_of_colours_and_edges():
    made = rows("train", density=0.7)
    counts = np.bincount([colour for _, colours, _ in made for colour in colours], minlength=6)[3:]
    assert stats.chisquare(counts).pvalue > 1e-3
    apart = [
        (edge, one, other)
        for edges, c, _ in made
        for edge, (one, other) in zip(edges, PAIRS, strict=True)
        if c[one] != c[other]
    ]
    joined = sum(edge == 2 for edge, *_ in apart)
    assert stats.binomtest(joined, len(apart), 0.7).pvalue > 1e-3


def test_how_many_colourings_there_are_at_two_densities():
    def numbers(density):
        return np.array([len(colourings(edges)) for edges, *_ in rows("test", density=density)[:12]])

    assert 40 < np.median(numbers(0.5)) < 250
    sparse = numbers(0.9)
    assert np.median(sparse) <= 12
    assert (sparse == 6).mean() > 0.25


def test_no_graph_is_in_two_rows():
    # Four vertices have 64 graphs; not all of them have three colours.
    made = [tuple(edges) for split in SIZES for edges, *_ in rows(split, vertices=4, train=30, validation=5, test=10)]
    assert len(set(made)) == len(made) == 45
    with pytest.raises(DataError, match="different"):
        generate("train", vertices=4, density=0.5, train=60, validation=5, test=10)


def test_given_colours():
    made = rows("train", given=3)
    counts = np.bincount([sum(given) for *_, given in made], minlength=4)
    assert stats.chisquare(counts).pvalue > 1e-3
    places = np.sum([given for *_, given in made], axis=0)
    assert stats.chisquare(places).pvalue > 1e-3
    assert not any(any(given) for *_, given in rows("train"))


def test_graphs_depend_on_seed_split_and_number_alone():
    assert rows("test")[:20] == rows("test", test=1200)[:20]
    assert rows("test")[:20] != rows("validation")[:20]
    assert rows("test")[:20] != rows("test", seed=1)[:20]


ROWS = {"input": [[1, 2, 2]], "target": [[3, 5, 5]], "given": [[True, False, False]]}


def test_golden_rows():
    mask = TOKENIZER.mask_token_id
    assert preprocess(ROWS, TOKENIZER) == {"prompt_ids": [[8, 9, 9, 10, mask, mask]], "input_ids": [[8, 9, 9, 10, 12, 12]]}
    del (without := dict(ROWS))["given"]
    assert preprocess(without, TOKENIZER)["prompt_ids"] == [[8, 9, 9, mask, mask, mask]]


def judged(edges, given, answers):
    prompt = preprocess({"input": [edges], "target": [answers[0][-len(given) :]], "given": [given]}, TOKENIZER)["prompt_ids"]
    ids = torch.tensor([[number + 7 for number in answer] for answer in answers])
    batch = {"prompt_ids": torch.tensor(prompt * len(answers))}
    return valid(Prediction(ids, torch.ones(len(ids))), batch, TOKENIZER)["valid"].total.bool().tolist()


def test_validity_is_what_trying_every_colouring_says():
    for edges, colours, _ in rows("test", vertices=5, density=0.8, train=1, validation=1, test=40)[:8]:
        proper = set(colourings(edges, 5))
        everything = [tuple(colours), *product((3, 4, 5), repeat=5)]
        found = judged(edges, [False] * 5, [[*edges, *one] for one in everything])
        assert {one for one, good in zip(everything, found, strict=True) if good} == proper
        given = [True] + [False] * 4
        found = judged(edges, given, [[*edges, *one] for one in everything])
        assert sum(found[1:]) == len([one for one in proper if one[0] == colours[0]])


def test_a_graph_that_was_changed_or_a_missing_colour_is_not_valid():
    edges, colours, _ = rows("test")[0]
    none = [False] * 8
    assert judged(edges, none, [[*edges, *colours]]) == [True]
    assert judged(edges, none, [[*edges, *colours], [*(1 for _ in edges), *colours]]) == [True, False]
    assert judged(edges, none, [[*edges, *colours], [*edges, *colours[:7], 2], [*edges, *colours[:7], -4]]) == [
        True,
        False,
        False,
    ]


def test_slips_are_named():
    with pytest.raises(ConfigError, match=r"density=1\.5"):
        generate("train", vertices=8, density=1.5)
    with pytest.raises(DataError, match="dev"):
        generate("dev", vertices=8, density=0.5)
