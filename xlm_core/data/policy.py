"""What was done to a text before its likelihood was measured. Two likelihoods are comparable when all of this is equal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xlm_core.data import store, tokenizers

if TYPE_CHECKING:
    from xlm_core.config import DataConfig
    from xlm_core.protocols import Tokenizer


def policy(
    config: DataConfig,
    tokenizer: Tokenizer,
    split: str,
    specials: Sequence[str],
    *,
    exact_bytes: bool,
    revision: str | None = None,
) -> dict[str, Any]:
    """The facets of the policy, and `hash`, which is equal where they are.

    Args:
        config: what the data are.
        tokenizer: the one that made the ids.
        split: which was measured.
        specials: names of the special tokens that stand in a row beside its content.
        exact_bytes: whether the bytes of a row are those of the text itself, or those of what its ids are decoded to.
        revision: the commit that the text was read from, where it comes from the Hub.

    Returns:
        `text` (set, split, source, revision), `detokenizer` (the preprocessing), `tokenizer`, `bytes` (which are counted),
        `wrapping` (how a text becomes rows) and `specials`. What is long is hashed.
    """
    key = store.ingredients(config, tokenizer, split)
    code = {name: key[name] for name in ("preprocess", "code", "arguments")}
    facets: dict[str, Any] = {
        "text": {"name": config.name, "split": split, "source": digest(key["source"]), "revision": revision},
        "detokenizer": {"function": config.preprocess, "hash": digest(code)},
        "tokenizer": (fingerprint := tokenizers.fingerprint(tokenizer)[:16]),
        "bytes": "text" if exact_bytes else f"decoded by {fingerprint}",
        "wrapping": {"layout": config.layout, "long_rows": _long_rows(config), "length": config.length},
        "specials": sorted(specials),
    }
    if config.layout == "seq2seq":
        facets["wrapping"]["prompt_length"] = config.prompt_length
    return {**facets, "hash": digest(facets)}


def digest(value: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _long_rows(config: DataConfig) -> str:
    if config.packing:
        return "packed"
    if config.truncate:
        return "truncated"
    return "divided" if config.layout == "lm" else "refused"
