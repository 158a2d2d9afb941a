"""Tokenizers: built from a config, always `PreTrainedTokenizerFast`, always with seven distinct special tokens.

The ones made here put the special tokens at 0..6 in the order of `ROLES` and the vocabulary from 7 on.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from xlm_core.data import smiles
from xlm_core.data.files import is_text
from xlm_core.data.lexicon import MANY_TEXTS, lexicon_of
from xlm_core.data.offline import hub_access
from xlm_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from xlm_core.config import TokenizerConfig

T = TypeVar("T")

ROLES = ("pad", "cls", "mask", "eos", "bos", "sep", "unk")
SPECIALS = tuple(f"[{role.upper()}]" for role in ROLES)
PRINTABLE = "\t\n" + "".join(map(chr, range(32, 127)))


def build(config: TokenizerConfig, *, text_path: str | None = None) -> PreTrainedTokenizerFast:
    """Make the tokenizer that the config describes.

    Args:
        config: `kind` says which of the other fields are read.
        text_path: where the data are. If that is a text file, `char` takes its alphabet from it when the config names none.

    Raises:
        ConfigError: an unknown kind, or a field that the kind needs is missing.
        DataError: a file or pretrained tokenizer that cannot be read.
    """
    builders: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
        "pretrained": lambda: _pretrained(_given(config.name, "pretrained", "name"), config.revision),
        "numbers": lambda: _words([str(n) for n in range(_given(config.size, "numbers", "size"))]),
        "words": lambda: _words(config.words or _listed(_given(config.path, "words", "words or tokenizer.path"))),
        "byte": _bytes,
        "char": lambda: _chars(_alphabet(config, text_path)),
        "smiles": _smiles,
    }
    if config.kind not in builders:
        raise ConfigError(f"there is no tokenizer kind {config.kind!r}", f"tokenizer.kind is one of {', '.join(builders)}.")
    return builders[config.kind]()


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, without special tokens.

    The text can never write a control token: "[MASK]" in it is cut up like any other word.
    """
    backend, texts = _plain(tokenizer), list(texts)
    lexicon = lexicon_of(tokenizer) if len(texts) >= MANY_TEXTS else None
    if lexicon is not None:
        return lexicon.encode(texts)
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Hash of everything that shapes ids and text: equal exactly for tokenizers that do the same."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content.pop("truncation"), content.pop("padding")
    content["roles"] = [getattr(tokenizer, f"{role}_token_id") for role in ROLES]
    content["clean_up"] = bool(tokenizer.clean_up_tokenization_spaces)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def save(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write the files that `load` and `AutoTokenizer.from_pretrained` read; each appears whole or not at all."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        tokenizer.save_pretrained(scratch)
        for file in Path(scratch).iterdir():
            os.replace(file, target / file.name)


def load(folder: str | Path) -> PreTrainedTokenizerFast:
    """Read what `save` wrote.

    Raises:
        DataError: there is no tokenizer in the folder.
    """
    if not (Path(folder) / "tokenizer.json").is_file():
        raise DataError(f"there is no tokenizer.json in {folder}", "Name a folder that xlm or save_pretrained wrote.")
    return _pretrained(str(folder), None)


def _given(value: T | None, kind: str, field: str) -> T:
    if value is None:
        raise ConfigError(f"the {kind} tokenizer needs tokenizer.{field}", f"Set tokenizer.{field}.")
    return value


def _plain(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """The Rust tokenizer with nothing switched on that cuts, pads, or reads control tokens out of text."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    return backend


def _wrap(backend: Tokenizer) -> PreTrainedTokenizerFast:
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])
    roles = {f"{role}_token": text for role, text in zip(ROLES, SPECIALS, strict=True)}
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **roles)


def _layout(symbols: Sequence[str]) -> dict[str, int]:
    if len(set(symbols)) != len(symbols):
        twice = next(symbol for n, symbol in enumerate(symbols) if symbol in symbols[:n])
        raise ConfigError(f"the vocabulary has {twice!r} twice", "List every word once.")
    return {symbol: n for n, symbol in enumerate([*SPECIALS, *symbols])}


def _words(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Whole words between white space; anything else is UNK."""
    for word in words:
        if word.split() != [word] or any(special in word for special in SPECIALS):
            hint = f"Words are not empty, have no spaces, and do not contain {' '.join(SPECIALS)}."
            raise ConfigError(f"{word!r} cannot be a word of the vocabulary", hint)
    backend = Tokenizer(models.WordLevel(_layout(words), unk_token="[UNK]"))
    # The special tokens are entries of the model's own vocabulary, so a text that spells one has to be cut inside it.
    split = pre_tokenizers.Split(Regex(rf"\[(?=(?:{'|'.join(ROLES).upper()})\])"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), split])
    return _wrap(backend)


def _bytes() -> PreTrainedTokenizerFast:
    """Byte b is id 7 + b, so every text has ids and comes back exactly."""
    backend = Tokenizer(models.BPE(vocab=_layout(_byte_symbols()), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return _wrap(backend)


def _byte_symbols() -> list[str]:
    """The printable character that the byte-level models of GPT-2 and its kin write for each byte, in byte order."""
    shown = [b for b in range(256) if chr(b).isprintable() and not chr(b).isspace()]
    hidden = [b for b in range(256) if b not in shown]
    symbols = {b: chr(b) for b in shown} | {b: chr(256 + n) for n, b in enumerate(hidden)}
    return [symbols[b] for b in range(256)]


def _chars(alphabet: Sequence[str]) -> PreTrainedTokenizerFast:
    """One id a character; a character outside the alphabet is UNK."""
    backend = Tokenizer(models.BPE(vocab=_layout(alphabet), merges=[], unk_token="[UNK]", fuse_unk=False))
    backend.decoder = decoders.Fuse()
    return _wrap(backend)


def _smiles() -> PreTrainedTokenizerFast:
    """One id a chemical symbol; the atoms in brackets that are not among them, and whatever else is printable, one a character.

    So every line of SMILES, or of SAFE, comes back exactly.
    """
    backend = Tokenizer(models.WordLevel(_layout(smiles.VOCABULARY), unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(smiles.SYMBOL), "isolated")
    backend.decoder = decoders.Fuse()
    return _wrap(backend)


def _listed(path: str) -> list[str]:
    return [line for line in "".join(_blocks(path)).splitlines() if line]


def _alphabet(config: TokenizerConfig, text_path: str | None) -> list[str]:
    path = config.path or (text_path if text_path and is_text(Path(text_path)) else None)
    if config.alphabet is not None or path is None:
        return list(config.alphabet or PRINTABLE)
    return sorted(set().union(*_blocks(path)) | {"\n"})


def _blocks(path: str) -> Iterator[str]:
    """A text file in pieces, however large it is."""
    try:
        with open(path, encoding="utf-8") as file:
            while block := file.read(1 << 20):
                yield block
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the tokenizer's file {path} cannot be read: {error}", "Name a UTF-8 text file.") from error


def _pretrained(name: str, revision: str | None) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer  # takes as long to import as all the rest of this file

    try:
        with hub_access():
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False, use_fast=True)
    except (OSError, ValueError) as error:
        hint = "Without network, set tokenizer.name to a local folder that holds tokenizer.json."
        raise DataError(f"the tokenizer {name} cannot be loaded: {_first_line(error)}", hint) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise DataError(f"the tokenizer {name} has no fast version", "Choose one with a tokenizer.json.")
    _complete(tokenizer)
    _plain(tokenizer)
    return tokenizer


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _complete(tokenizer: PreTrainedTokenizerFast) -> None:
    """Give every role an id of its own. New tokens go to the end in the order of `ROLES`; EOS keeps the id that it has."""
    claimed: set[int] = set()
    lacking = []
    for role in sorted(ROLES, key=lambda role: role != "eos"):
        current = getattr(tokenizer, f"{role}_token_id")
        if current is None or current in claimed:
            lacking.append(role)
        else:
            claimed.add(current)
    for role in sorted(lacking, key=ROLES.index):
        text = f"[{role.upper()}]"
        while tokenizer.get_vocab().get(text) in claimed:
            text = f"<{text}>"
        tokenizer.add_special_tokens({f"{role}_token": AddedToken(text, special=True, normalized=False)})
        claimed.add(getattr(tokenizer, f"{role}_token_id"))
