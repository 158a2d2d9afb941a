"""How fast a text file becomes rows of ids, and in how much memory. Run by hand; nothing here is a test.

    python tests/benchmarks/preparation.py [--megabytes 100 400] [--processes 2] [--words 25] [--vocabulary 32000]

`xlm` is `xlm data prepare text`; `per-row map` reads the same file with `datasets` and calls the same tokenizer in a `map` over
single rows, as research code does, in as many processes. Such code then writes the rows once more with `save_to_disk`, which is
left out here. It is measured on the first size only. Each runs in a process of its own with a cold cache, in turn; imports are
not counted.

Memory is the most that the process and its children held at once, what they share counted once (PSS, Linux). Pages that are not
a file's are what has to fit; those of mapped files, which are in the last column too, are dropped when others need the room.

The text is drawn from half a million made-up words by Zipf's law, with the exponent 2 beyond the 6,000 most common (Ferrer i
Cancho and Solé, 2001). With its commas, full stops and capitals, 300,000 words have 35,000 different ones; as many of the
documentation of Python have 33,000. So many words make a line, which is a row: 25 are a sentence of LM1B; the longer lines are,
the less it matters what a row costs beside its tokens. The tokenizer is a byte-level BPE like that of GPT-2, trained on the
beginning of the text.
"""

from __future__ import annotations

import argparse
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

WORDS = 500_000
COMMON = 6_000
COMMAS = 1 / 12
TRAINED_LINES = 20_000
SYLLABLES = [c + v for c in "bcdfghjklmnprstvwz" for v in ("a", "e", "i", "o", "u", "ai", "ou")]


class Costs(NamedTuple):
    """Seconds on the clock, and of all processes on their processors: the second tells more on a busy machine."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Costs:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used))

    def __sub__(self, other: Costs) -> Costs:
        return Costs(self.wall - other.wall, self.cpu - other.cpu)


def word(rank: int) -> str:
    """Pronounceable, and short for the common ones."""
    rest, syllable = divmod(rank, len(SYLLABLES))
    return (word(rest - 1) if rest else "") + SYLLABLES[syllable]


def write_text(path: Path, megabytes: int, line: int) -> None:
    random = np.random.default_rng(0)
    vocabulary = np.array([word(rank) for rank in range(WORDS)], dtype=object)
    ranks = np.arange(1, WORDS + 1)
    law = np.cumsum(1 / ranks / np.maximum(1, ranks / COMMON))
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1_000_000:
            lengths = random.poisson(line, 2000) + 1
            drawn = vocabulary[np.searchsorted(law, random.random(lengths.sum()) * law[-1])]
            drawn[random.random(len(drawn)) < COMMAS] += ","
            rest = iter(drawn)
            file.writelines(" ".join(islice(rest, length)).capitalize() + ".\n" for length in lengths.tolist())


def write_tokenizer(folder: Path, text: Path, vocabulary: int) -> None:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    def lines() -> Iterator[str]:
        with text.open(encoding="utf-8") as file:
            yield from islice(file, TRAINED_LINES)

    backend = ByteLevelBPETokenizer()
    backend.train_from_iterator(lines(), vocab_size=vocabulary, show_progress=False)
    PreTrainedTokenizerFast(tokenizer_object=backend._tokenizer).save_pretrained(folder)


def ours(text: Path, tokenizer: Path, scratch: Path, processes: int) -> Costs:
    from xlm_core import compose, composition
    from xlm_core.data import store, tokenizers

    overrides = ["data=text", f"data.path={text}", "tokenizer=pretrained", f"tokenizer.name={tokenizer}", "data.length=1024"]
    split = ["~data.splits.validation", "~data.splits.test", "data.splits.train.share=[0,1]", f"data.processes={processes}"]
    config = composition.check(compose([*overrides, *split, "data.predict={}"]))
    began = Costs.now()
    store.prepare(config.data, tokenizers.build(config.tokenizer), "train", cache=scratch)
    return Costs.now() - began


def per_row_map(text: Path, tokenizer: Path, scratch: Path, processes: int) -> Costs:
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    began = Costs.now()
    tokenize = AutoTokenizer.from_pretrained(str(tokenizer))
    rows = datasets.load_dataset("text", data_files=str(text), split="train", cache_dir=str(scratch))
    rows.map(lambda row: {"input_ids": tokenize(row["text"])["input_ids"]}, num_proc=processes, remove_columns=["text"])
    return Costs.now() - began


SIDES = {"xlm": ours, "per-row map": per_row_map}


class Memory(NamedTuple):
    """Megabytes: of pages that are not a file's, and of all."""

    anonymous: float = 0
    whole: float = 0

    @classmethod
    def of(cls, root: int) -> Memory:
        """Of a process and all that it started."""
        kilobytes, waiting = [0, 0], [root]
        while waiting:
            place = Path(f"/proc/{waiting.pop()}")
            try:
                held = dict(line.split()[:2] for line in (place / "smaps_rollup").read_text().splitlines()[1:])
                waiting += [int(child) for task in place.glob("task/*/children") for child in task.read_text().split()]
            except OSError:  # it has just ended
                continue
            kilobytes = [total + int(held[name]) for total, name in zip(kilobytes, ("Pss_Anon:", "Pss:"), strict=True)]
        return cls(*(total / 1000 for total in kilobytes))


def measured(side: str, text: Path, tokenizer: Path, processes: int) -> tuple[Costs, Memory]:
    """What it took, and the peaks."""
    with tempfile.TemporaryDirectory(dir=text.parent) as scratch:
        arguments = [side, str(text), str(tokenizer), scratch, str(processes)]
        child = subprocess.Popen([sys.executable, __file__, "--one", *arguments], stdout=subprocess.PIPE, text=True)
        peak = Memory()
        while child.poll() is None:
            peak = Memory(*map(max, peak, Memory.of(child.pid)))
            time.sleep(0.1)
        assert child.stdout is not None
        if child.returncode:
            raise SystemExit(f"{side} failed")
        wall, cpu = map(float, child.stdout.read().split()[-2:])
        return Costs(wall, cpu), peak


def show(megabytes: int, side: str, costs: Costs, base: Costs, peak: Memory) -> None:
    """`base` is the map's costs of one megabyte."""
    speeds = [
        costs.wall,
        costs.cpu,
        megabytes / costs.wall,
        *(megabytes * one / cost for one, cost in zip(base, costs, strict=True)),
    ]
    cells = [f"{megabytes} MB", side, *(f"{speed:.1f}" for speed in speeds), *(f"{size:.0f}" for size in peak)]
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--words", type=int, default=25)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        side, text, tokenizer, scratch, processes = wanted.one
        print(*SIDES[side](Path(text), Path(tokenizer), Path(scratch), int(processes)))
        return
    heads = [
        "text",
        "by",
        "seconds",
        "CPU seconds",
        "MB/s",
        "ratio",
        "ratio of CPU",
        "peak memory, MB",
        "with mapped files, MB",
    ]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    base = Costs(math.nan, math.nan)
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in wanted.megabytes:
            text, tokenizer = Path(folder) / f"{megabytes}.txt", Path(folder) / "tokenizer"
            write_text(text, megabytes, wanted.words)
            if not tokenizer.exists():
                write_tokenizer(tokenizer, text, wanted.vocabulary)
            for side in ("per-row map", "xlm") if megabytes == wanted.megabytes[0] else ("xlm",):
                costs, peak = measured(side, text, tokenizer, wanted.processes)
                base = Costs(*(cost / megabytes for cost in costs)) if side == "per-row map" else base
                show(megabytes, side, costs, base, peak)
            text.unlink()


if __name__ == "__main__":
    main()
