"""A context-free grammar, all of its sentences up to a depth, and how deep a sentence is.

The depth of a word is 1, that of a phrase one more than that of its deepest part. With `depth` 5, grammar G1 has 682,080
sentences of 2 to 13 words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from math import inf

import numpy as np
import pyarrow as pa

from xlm_core.errors import DataError

SHARES = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0)}
"""The parts of the shuffled sentences that the splits are."""


@dataclass(frozen=True)
class Derivation:
    """One way to make a phrase, and how many there are."""

    depth: int
    count: int
    rules: tuple[str, ...]
    """That it uses, the topmost first, each as "NP -> Det N"."""

    def beside(self, other: Derivation) -> Derivation:
        return Derivation(max(self.depth, other.depth), self.count * other.count, self.rules + other.rules)


@dataclass(frozen=True)
class Grammar:
    """Rules of phrases, of which none is empty or made of itself alone. What has no rule is a word."""

    rules: dict[str, list[str]]
    """The parts of a phrase, separated by spaces, for each way to make it. The first phrase is the sentence."""

    @property
    def start(self) -> str:
        return next(iter(self.rules))

    def sentences(self, depth: int) -> list[str]:
        """All of at most this depth, each as often as it has derivations."""

        @cache
        def phrases(symbol: str, left: int) -> list[str]:
            if left == 0:
                return []
            if symbol not in self.rules:
                return [symbol]
            parts = [[phrases(part, left - 1) for part in rule.split()] for rule in self.rules[symbol]]
            return [" ".join(words) for choices in parts for words in product(*choices)]

        return phrases(self.start, depth)

    @property
    def phrasal(self) -> frozenset[str]:
        """The rules with a phrase in them, written as derivations list them."""
        return frozenset(
            f"{symbol} -> {rule}"
            for symbol, rules in self.rules.items()
            for rule in rules
            if any(part in self.rules for part in rule.split())
        )

    def depth(self, words: list[str]) -> float:
        """Of the shallowest derivation of a sentence; infinite where there is none."""
        found = self.derivation(words)
        return inf if found is None else found.depth

    def derivation(self, words: list[str]) -> Derivation | None:
        """The shallowest derivation of a sentence, and how many there are.

        Every span of words is tried for every phrase, as in the algorithm of Cocke, Younger and Kasami.
        """
        single = {
            symbol for symbol, rules in self.rules.items() if not any(" " in rule or rule in self.rules for rule in rules)
        }

        @cache
        def phrase(symbol: str, start: int, stop: int) -> Derivation | None:
            if symbol not in self.rules:
                return Derivation(1, 1, ()) if stop - start == 1 and words[start] == symbol else None
            if symbol in single and stop - start > 1:
                return None
            made = ((rule, series(tuple(rule.split()), start, stop)) for rule in self.rules[symbol])
            return _either([Derivation(1 + d.depth, d.count, (f"{symbol} -> {rule}", *d.rules)) for rule, d in made if d])

        @cache
        def series(parts: tuple[str, ...], start: int, stop: int) -> Derivation | None:
            if len(parts) == 1:
                return phrase(parts[0], start, stop)
            ends = range(start + 1, stop - len(parts) + 2)
            heads = ((head, end) for end in ends if (head := phrase(parts[0], start, end)))
            return _either([head.beside(rest) for head, end in heads if (rest := series(parts[1:], end, stop))])

        return phrase(self.start, 0, len(words)) if words else None


def _either(found: list[Derivation]) -> Derivation | None:
    """The shallowest of several, with the number of all."""
    if not found:
        return None
    best = min(found, key=lambda one: one.depth)
    return Derivation(best.depth, sum(one.count for one in found), best.rules)


G1 = Grammar(
    {
        "S": ["NP VP", "NP Vindirect C S"],
        "NP": ["NProp", "Det N", "Det A N", "NP PP", "NP Poss NP"],
        "VP": ["Vintr", "Vtr NP", "VP PP"],
        "PP": ["P NP"],
        "NProp": ["John", "Mary", "Alice"],
        "N": ["man", "telescope", "elephant"],
        "A": ["big", "small", "happy", "sad"],
        "Det": ["the", "my", "your"],
        "Vintr": ["sneezed", "laughed"],
        "Vtr": ["chased", "bought"],
        "Vindirect": ["said", "thought"],
        "C": ["that"],
        "P": ["with", "under"],
        "Poss": ["`s"],
    }
)
DEPTH = 5


def generate(split: str, *, seed: int = 42) -> dict[str, pa.Array]:
    """Sentences of G1 of depth 5 at most, each in one split: 70 % in train, 10 % in validation, 20 % in test.

    Args:
        split: train, validation or test.
        seed: of the order that is divided.

    Returns:
        `text`: words with a space between.
    """
    if split not in SHARES:
        raise DataError(f"there is no split {split!r} of the grammar", f"There are {', '.join(SHARES)}.")
    sentences = np.array(G1.sentences(DEPTH), dtype=object)
    start, stop = (round(share * len(sentences)) for share in SHARES[split])
    order = np.random.default_rng(seed).permutation(len(sentences))
    return {"text": pa.array(sentences[order[start:stop]])}
