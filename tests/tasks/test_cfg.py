import re
from collections import Counter
from functools import cache
from itertools import product
from math import inf

import numpy as np
import pytest
import torch

from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import DataError
from xlm_core.protocols import Prediction
from xlm_core.tasks.cfg import DEPTH, G1, Grammar, generate, grammar, syntax

# How many of the sentences have 2, 3, ... words, counted by others.
LENGTHS = [6, 36, 198, 792, 2592, 8586, 19278, 52812, 96228, 174960, 139968, 186624]


@cache
def sentences():
    return G1.sentences(DEPTH)


def polynomial(symbol, depth):
    """The number of derivations of each length: rules are sums, what stands side by side is a product."""
    if depth == 0:
        return np.zeros(1, np.int64)
    if symbol not in G1.rules:
        return np.array([0, 1])
    total = np.zeros(1, np.int64)
    for rule in G1.rules[symbol]:
        made = np.ones(1, np.int64)
        for part in rule.split():
            made = np.convolve(made, polynomial(part, depth - 1))
        total = np.pad(total, (0, max(0, len(made) - len(total))))
        total[: len(made)] += made
    return total


def test_the_number_of_sentences_in_closed_form():
    # 48 simple noun phrases, 48 * 48 possessed ones; 2 + 2 * 48 verb phrases, or 2 * (said, thought) that * 48 * 2 words.
    assert len(sentences()) == (48 + 48 * 48) * (2 + 2 * 48) + (48 + 48 * 48) * 2 * 48 * 2 == 682_080
    assert len(set(sentences())) == len(sentences())


def test_the_number_of_sentences_of_each_length():
    counted = np.bincount([sentence.count(" ") + 1 for sentence in sentences()])
    assert counted[2:].tolist() == LENGTHS
    made = polynomial("S", DEPTH)
    assert np.trim_zeros(made, "b").tolist() == counted.tolist()


def by_shape():
    """The language again, without the grammar: what the depth leaves of it is regular."""
    simple = r"(?:John|Mary|Alice|(?:the|my|your) (?:(?:big|small|happy|sad) )?(?:man|telescope|elephant))"
    noun = f"{simple}(?: `s {simple})?"
    return re.compile(
        rf"{noun} (?:sneezed|laughed|(?:chased|bought) {simple}|(?:said|thought) that {simple} (?:sneezed|laughed))"
    )


def test_sentences_are_those_of_the_regular_expression():
    shape = by_shape()
    assert all(shape.fullmatch(sentence) for sentence in sentences()[::97])


def test_depth_of_sentences():
    shape = by_shape()
    rng = np.random.default_rng(0)
    words = sorted({word for sentence in sentences()[:20000] for word in sentence.split()})
    agree = Counter()
    for number in rng.integers(len(sentences()), size=60):
        sentence = sentences()[number].split()
        for changed in range(3):
            if changed:
                sentence[rng.integers(len(sentence))] = words[rng.integers(len(words))]
            inside = shape.fullmatch(" ".join(sentence)) is not None
            assert (G1.depth(sentence) <= DEPTH) == inside
            agree[inside] += 1
    assert min(agree.values()) > 20


def test_all_short_strings_of_another_grammar_are_recognised_as_enumeration_has_them():
    """Left-recursive, with long rules, ambiguous."""
    grammar = Grammar({"S": ["S S", "a S b", "C"], "C": ["c", "a b"]})
    for depth in (2, 3, 4, 5):
        derived = set(grammar.sentences(depth))
        for size in (1, 2, 3, 4, 5):
            for words in product("abc", repeat=size):
                assert (grammar.depth(list(words)) <= depth) == (" ".join(words) in derived)
    assert grammar.depth([]) == inf


@pytest.mark.parametrize(
    ("sentence", "depth"),
    [
        ("John sneezed", 4),
        ("John chased Mary", 5),
        ("John chased my big elephant with your telescope", 6),
        ("John said that Mary laughed", 5),
        ("John said that Mary said that Alice laughed", 6),
        ("the man with the telescope under the elephant laughed", 7),
        ("John chased", inf),
        ("man laughed", inf),
        ("John laughed that", inf),
        ("", inf),
    ],
)
def test_depth_of_examples(sentence, depth):
    assert G1.depth(sentence.split()) == depth


def test_the_sizes_of_the_splits():
    assert len(generate("validation")["text"]) == 68_208
    assert [round(682_080 * (stop - start)) for start, stop in grammar.SHARES.values()] == [477_456, 68_208, 136_416]


def test_splits_divide_the_sentences_and_the_seed_orders_them(monkeypatch):
    monkeypatch.setattr(grammar, "DEPTH", 4)
    made = {split: generate(split)["text"].to_pylist() for split in ("train", "validation", "test")}
    together = [*made["train"], *made["validation"], *made["test"]]
    assert [len(texts) for texts in made.values()] == [67, 10, 19]
    assert sorted(together) == sorted(G1.sentences(4))
    assert together != G1.sentences(4)
    assert generate("test")["text"].to_pylist() == made["test"]
    assert generate("test", seed=1)["text"].to_pylist() != made["test"]
    with pytest.raises(DataError, match="dev"):
        generate("dev")


def test_metric():
    words = sorted({word for rules in G1.rules.values() for rule in rules for word in rule.split()} - set(G1.rules))
    tokenizer = tokenizers.build(TokenizerConfig(kind="words", words=words))
    texts = [
        "John sneezed",
        "John chased my elephant with your telescope",
        "John John",
        "",
        "John sneezed [MASK]",
        "Mary `s my man laughed",
    ]
    ids = [tokenizer.convert_tokens_to_ids(text.split()) for text in texts]
    padded = torch.tensor([row + [tokenizer.pad_token_id] * (8 - len(row)) for row in ids])
    found = syntax(Prediction(padded, torch.ones(6)), {}, tokenizer)
    assert found["grammatical"].total.tolist() == [1, 1, 0, 0, 0, 1]
    assert found["in_language"].total.tolist() == [1, 0, 0, 0, 0, 1]
    assert found["grammatical"].count.tolist() == [1] * 6
