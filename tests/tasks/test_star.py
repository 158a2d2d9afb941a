from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest
from scipy import stats

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import ConfigError, DataError
from xlm_core.tasks.star import generate, preprocess

# degree, shortest and longest arm, nodes after the junction, vocabulary; written down anew from the definition of the task
LAWS = {"easy": (3, 5, 5, 4, 20), "medium": (3, 3, 6, 2, 20), "hard": (5, 6, 12, 5, 56)}
LENGTHS = {"easy": ((26, 26), (8, 8)), "medium": ((14, 32), (4, 10)), "hard": ((52, 112), (10, 22))}
SIZES = {"train": 600, "validation": 50, "test": 150}


@cache
def columns(difficulty, split):
    return {name: column.to_pylist() for name, column in generate(split, difficulty=difficulty, **SIZES).items()}


def graphs(difficulty):
    for split in SIZES:
        made = columns(difficulty, split)
        yield from zip(made["edge_list"], made["source"], made["goal"], made["path"], strict=True)


def simple_paths(edges, source, goal):
    """All of them, by depth-first search."""
    follows = defaultdict(list)
    for start, end in edges:
        follows[start].append(end)
    found, stack = [], [[source]]
    while stack:
        path = stack.pop()
        if path[-1] == goal:
            found.append(path)
        stack += [[*path, node] for node in follows[path[-1]] if node not in path]
    return found


@pytest.mark.parametrize("difficulty", LAWS)
def test_the_path_is_the_only_one(difficulty):
    for edges, source, goal, path in graphs(difficulty):
        assert simple_paths(edges, source, goal) == [path]
        assert (path[0], path[-1]) == (source, goal)


@pytest.mark.parametrize("difficulty", LAWS)
def test_graphs_are_arms_through_one_junction(difficulty):
    degree, shortest, longest, plan, vocabulary = LAWS[difficulty]
    for edges, _, _, path in graphs(difficulty):
        nodes = {node for edge in edges for node in edge}
        assert nodes <= set(range(vocabulary))
        assert len({tuple(edge) for edge in edges}) == len(edges) == len(nodes) - 1  # a tree
        assert shortest <= len(path) <= longest
        incident = Counter(node for edge in edges for node in edge)
        (junction,) = [node for node, count in incident.items() if count >= degree]
        leaving = [end for start, end in edges if start == junction]
        assert len(leaving) == degree
        assert all(count <= 2 for node, count in incident.items() if node != junction)
        follows = dict(edge for edge in edges if edge[0] != junction)
        for node in leaving:
            after = 1
            while node in follows:
                node, after = follows[node], after + 1
            assert after >= plan
        assert len(path) - 1 - path.index(junction) >= plan


@pytest.mark.parametrize("difficulty", LAWS)
def test_lengths_are_those_of_the_published_sets(difficulty):
    prompts, targets = LENGTHS[difficulty]
    prompt = [2 * len(edges) + 2 for edges, *_ in graphs(difficulty)]
    target = [2 * (len(path) - 1) for *_, path in graphs(difficulty)]
    assert prompts[0] <= min(prompt) <= max(prompt) <= prompts[1]
    assert targets == (min(target), max(target))


def test_default_sizes():
    made = {split: len(generate(split, difficulty="easy")["path"]) for split in SIZES}
    assert made == {"train": 50_000, "validation": 100, "test": 5_000}


def question(edges, source, goal):
    return (frozenset(map(tuple, edges)), source, goal)


def test_no_split_asks_what_another_asks(monkeypatch):
    from xlm_core.tasks.star import graphs as module

    # so few nodes that questions repeat all the time: two arms of two nodes on five numbers
    monkeypatch.setitem(module.DIFFICULTIES, "tiny", module.Difficulty(2, 2, 2, 1, 5))
    asked = {}
    for split, size in {"train": 400, "validation": 5, "test": 20}.items():
        made = generate(split, difficulty="tiny", train=400, validation=5, test=20)
        assert len(made["path"]) == size
        lists = [column.to_pylist() for column in made.values()][:3]
        asked[split] = {question(*row) for row in zip(*lists, strict=True)}
    assert not asked["train"] & asked["test"]
    assert not asked["train"] & asked["validation"]
    assert not asked["validation"] & asked["test"]
    assert len(asked["test"]) > 10


def test_graphs_depend_on_seed_difficulty_split_and_number_alone():
    def first(split, size, **sizes):
        made = generate(split, difficulty="medium", **{split: size} | sizes)
        return [column.to_pylist()[:20] for column in made.values()]

    assert first("test", 20) == first("test", 3000)
    assert first("train", 20, test=10) == first("train", 1500, test=10)
    assert first("test", 20) != first("validation", 20)
    assert first("test", 20) != first("test", 20, seed=1)


def test_the_law_of_lengths_junctions_names_and_places():
    degree, shortest, longest, plan, vocabulary = LAWS["medium"]
    made = {name: column.to_pylist() for name, column in generate("train", difficulty="medium", train=6000).items()}
    sizes = np.array([len(edges) for edges in made["edge_list"]])
    law = np.ones(1)
    for _ in range(degree):
        law = np.convolve(law, np.full(longest - shortest + 1, 1 / (longest - shortest + 1)))
    least = degree * (shortest - 1)
    assert stats.chisquare(np.bincount(sizes - least, minlength=len(law)), law * 6000).pvalue > 1e-3

    places = Counter()
    for edges, path in zip(made["edge_list"], made["path"], strict=True):
        incident = Counter(node for edge in edges for node in edge)
        places[len(path), path.index(max(incident, key=incident.get))] += 1
    cells = {(length, place): 6000 / 4 / (length - plan) for length in range(3, 7) for place in range(length - plan)}
    assert set(places) == set(cells)
    assert stats.chisquare([places[cell] for cell in cells], list(cells.values())).pvalue > 1e-3

    assert stats.chisquare(np.bincount(made["source"], minlength=vocabulary)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(made["goal"], minlength=vocabulary)).pvalue > 1e-3
    where = [edges.index(path[:2]) / len(edges) for edges, path in zip(made["edge_list"], made["path"], strict=True)]
    assert stats.chisquare(np.histogram([w for w, n in zip(where, sizes, strict=True) if n == 12], 12, (0, 1))[0]).pvalue > 1e-3


ROWS = {"edge_list": [[[3, 1], [1, 19], [3, 0]]], "source": [3], "goal": [19], "path": [[3, 1, 19]]}


def test_golden_prompt_and_target():
    made = preprocess(ROWS, tokenizers.build(TokenizerConfig(kind="numbers", size=20)))
    assert made == {"prompt_ids": [[10, 8, 8, 26, 10, 7, 10, 26]], "input_ids": [[10, 8, 8, 26]]}


def test_other_tokenizers_read_the_numbers_as_text():
    tokenizer = tokenizers.build(TokenizerConfig(kind="byte"))
    made = preprocess(ROWS, tokenizer)
    assert tokenizer.decode(made["prompt_ids"][0]) == "3 1 1 19 3 0 3 19"
    assert tokenizer.decode(made["input_ids"][0]) == "3 1 1 19"


def test_unknown_nodes_are_refused():
    with pytest.raises(DataError) as caught:
        preprocess(ROWS, tokenizers.build(TokenizerConfig(kind="numbers", size=19)))
    assert "0 to 19" in caught.value.message


def test_slips_are_named():
    with pytest.raises(ConfigError, match="extreme"):
        generate("train", difficulty="extreme")
    with pytest.raises(DataError, match="dev"):
        generate("dev", difficulty="easy")
