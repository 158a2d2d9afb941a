"""Text to ids by way of its words: what a tokenizer makes of a word is kept for when the word comes again.

Most words of a text were in it before, so this is several times faster than to tokenize every one of them. The ids are the
same where a tokenizer cuts the text before every word anyway, and what is done to a word does not depend on its neighbours.
That is read from the tokenizer's parts; one that has any other part is used as it is.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xlm_core.data.ragged import Ragged

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

MODELS = {"BPE", "WordLevel", "WordPiece"}
DROPS_SPACES = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
"""Pre-tokenizers that take white space for nothing but the end of a word."""
CANONICAL = {"NFC", "NFD"}
"""Normalizers that work on a character and its accents, and neither make nor remove spaces."""
LOCAL = CANONICAL | {"NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer"}
"""Normalizers that work on a character and its accents."""
MANY_TEXTS = 100
"""Fewer are not worth the reading of the tokenizer's parts."""
KEPT_IDS = 1 << 19
"""A lexicon that has more starts again: memory does not grow with the text."""
SPACE = ord(" ")
VISIBLE = np.zeros(256, bool)
"""First bytes in UTF-8 of characters of which none is white space."""
VISIBLE[0x21:0x7F] = True
VISIBLE[0xC3:0xF5] = True
VISIBLE[[0xE1, 0xE2, 0xE3]] = False


class Lexicon:
    """The words that a tokenizer has seen, and their ids."""

    def __init__(self, backend: Tokenizer) -> None:
        self._backend = backend
        self._forget()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens."""
        words, edges = words_of(texts)
        coded = words.dictionary_encode()
        numbers = self._numbered(coded.dictionary.to_numpy(zero_copy_only=False).tolist())[coded.indices.to_numpy()]
        ids = self._ids.pick(self._ids.offsets[numbers], self._ids.lengths[numbers])
        return Ragged(ids.values, ids.offsets[edges]).tolist()

    def _forget(self) -> None:
        self._numbers: dict[str, int] = {}
        self._ids = Ragged.of([])

    def _numbered(self, words: list[str]) -> NDArray[np.int64]:
        """(W,) int64: the row of each word in `_ids`. Words that are new are added."""
        if len(self._ids.values) > KEPT_IDS:
            self._forget()
        new = [word for word in words if word not in self._numbers]
        if new:
            first = len(self._ids)
            encodings = self._backend.encode_batch_fast(new, add_special_tokens=False)
            self._ids = self._ids.followed_by(Ragged.of([encoding.ids for encoding in encodings]))
            self._numbers.update(zip(new, range(first, first + len(new)), strict=True))
        return np.fromiter(map(self._numbers.__getitem__, words), np.int64, len(words))


class _Lexicons(threading.local):
    """A thread has its own, so that no lock is ever held in a fork."""

    def __init__(self) -> None:
        self.known: WeakKeyDictionary[PreTrainedTokenizerFast, tuple[str, Lexicon | None]] = WeakKeyDictionary()


_lexicons = _Lexicons()


def lexicon_of(tokenizer: PreTrainedTokenizerFast) -> Lexicon | None:
    """The lexicon of this tokenizer and thread; None where texts have to be tokenized as a whole."""
    backend = tokenizer.backend_tokenizer
    parts = repr((_state(backend.normalizer), _state(backend.pre_tokenizer), backend.get_added_tokens_decoder()))
    known = _lexicons.known.get(tokenizer)
    if known is None or known[0] != parts:
        known = parts, Lexicon(backend) if goes_by_words(json.loads(backend.to_str())) else None
        _lexicons.known[tokenizer] = known
    return known[1]


def words_of(texts: Sequence[str]) -> tuple[pa.LargeStringArray, NDArray[np.int64]]:
    """All texts, cut before each space that a visible character follows.

    Returns:
        the words, each with the space before it, and (R + 1,) int64: which of them each text begins with.

    Raises:
        TypeError: there is something else than a text.
    """
    whole = pa.array(texts, pa.large_string())
    if whole.null_count:
        raise TypeError("a text is None")
    _, offsets, data = whole.buffers()
    edges = np.frombuffer(offsets, np.int64, len(texts) + 1)
    text = np.frombuffer(data or b"", np.uint8, edges[-1])
    begins = np.zeros(len(text) + 1, bool)
    spaces = np.flatnonzero(text[:-1] == SPACE)
    begins[spaces[VISIBLE[text[spaces + 1]]]] = True
    begins[edges[1:] - 1] = False  # what follows there is another text
    begins[edges] = True
    starts = np.flatnonzero(begins)
    words = pa.LargeStringArray.from_buffers(len(starts) - 1, pa.py_buffer(starts), data)
    return words, np.searchsorted(starts, edges)


def goes_by_words(content: Mapping[str, Any]) -> bool:
    """Whether the tokenizer of this `tokenizer.json` makes of each of the `words_of` a text what it makes of it in the text."""
    model, normalizers = content["model"], _members(content["normalizer"], "normalizers")
    first, *others = _members(content["pre_tokenizer"], "pretokenizers") or [{"type": None}]
    if model["type"] not in MODELS or model.get("dropout") or not all(token["special"] for token in content["added_tokens"]):
        return False
    if any(other["type"] == "Metaspace" for other in others):  # it marks the first piece of a text
        return False
    kinds = {normalizer["type"] for normalizer in normalizers}
    if first["type"] in DROPS_SPACES:
        return kinds <= LOCAL
    if first["type"] == "ByteLevel" and first["use_regex"]:
        return kinds <= CANONICAL
    return _only_symbols(model) and not kinds and not others and first["type"] in (None, "ByteLevel")


def _only_symbols(model: Mapping[str, Any]) -> bool:
    """Whether every character has its token, whatever stands beside it."""
    joining = ("merges", "ignore_merges", "fuse_unk", "continuing_subword_prefix", "end_of_word_suffix")
    return model["type"] == "BPE" and not any(model.get(option) for option in joining)


def _members(part: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    """The parts of a sequence, or the only part."""
    if part is None:
        return []
    return [member for each in part[name] for member in _members(each, name)] if part["type"] == "Sequence" else [part]


def _state(part: Any) -> bytes | None:
    return None if part is None else part.__getstate__()
