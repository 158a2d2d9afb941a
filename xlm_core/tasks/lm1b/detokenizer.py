"""LM1B is published in tokens between spaces; models read the text that they came from, as far as it can be told.

The rules, and their order, are those that SEDD (Lou et al., 2024) and MDLM (Sahoo et al., 2024) use, so losses can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xlm_core.protocols import Tokenizer


def _rule(pattern: str, replacement: str) -> tuple[re.Pattern[str], str]:
    return re.compile(pattern, re.MULTILINE), replacement


RULES = (
    _rule(r"http : / / ", "http://"),
    _rule(r"https : / / ", "https://"),
    _rule(r" '(\w+)", r"'\1"),
    _rule(r" (\w+) \. ", r" \1. "),
    _rule(r" (\w+) \.$", r" \1."),
    _rule(r" \? ", "? "),
    _rule(r" \?$", "?"),
    _rule(r" ! ", "! "),
    _rule(r" !$", "!"),
    _rule(r" , ", ", "),
    _rule(r" : ", ": "),
    _rule(r" ; ", "; "),
    _rule(r" / ", "/"),
    _rule(r'" ([^"\n]+) "', r'"\1"'),
    _rule(r"' ([^'\n]+) '", r"'\1'"),
    _rule(r"\( ([^()\n]+) \)", r"(\1)"),
    _rule(r"\[ ([^\[\]\n]+) \]", r"[\1]"),
    _rule(r"\$ ", "$"),
    _rule(r"£ ", "£"),
)
"""Applied in this order. No match reaches over a line, so many sentences can be treated at once."""


def detokenize(texts: Sequence[str]) -> list[str]:
    """Undo the tokenization of sentences that have one line each."""
    joined = "\n".join(texts)
    for pattern, replacement in RULES:
        joined = pattern.sub(replacement, joined)
    return joined.split("\n") if texts else []


def preprocess(rows: Mapping[str, Sequence[str]], tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """The column `text` to the ids of its detokenized sentences."""
    from xlm_core.data.tokenizers import encode

    texts = [" ".join(text.split("\n")) for text in rows["text"]]
    return {"input_ids": encode(tokenizer, detokenize(texts))}
