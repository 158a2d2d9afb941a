"""The benchmark as it was published: the folder `1-billion-word-language-modeling-benchmark-r13output`."""

from __future__ import annotations

from pathlib import Path

from xlm_core.errors import DataError

TRAINING = "training-monolingual.tokenized.shuffled"
HELD_OUT = "heldout-monolingual.tokenized.shuffled"
HELD_OUT_SHARDS = 50


def local_files(split: str, path: str) -> list[Path] | None:
    """The files of a split in the order of the Hub's copy, where `test` is everything that is held out.

    Args:
        split: train or test.
        path: of the published folder; None is returned for a folder that is laid out in another way.

    Raises:
        DataError: files are missing. Rows of `test` are told apart by their place, so all of its shards have to be there.
    """
    folder = Path(path).expanduser()
    if not (folder / TRAINING).is_dir() and not (folder / HELD_OUT).is_dir():
        return None
    if split not in ("train", "test"):
        raise DataError(f"LM1B has no split {split!r}", "It has train and test.")
    place, pattern = (TRAINING, "news.en-*-of-00100") if split == "train" else (HELD_OUT, "news.en.heldout-*-of-00050")
    found = sorted((folder / place).glob(pattern))
    if not found or (split == "test" and len(found) != HELD_OUT_SHARDS):
        raise DataError(f"{folder / place} has {len(found)} files {pattern}", "Unpack the whole archive.")
    return found
