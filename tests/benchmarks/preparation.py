"""How fast a text file becomes rows of ids, and in how much memory. Run by hand; nothing here is a test.

    python tests/benchmarks/preparation.py [--megabytes 100 400] [--processes 2] [--words 25]

`xlm` is `xlm data prepare text`; `per-row map` reads the same file with `datasets` and calls the same tokenizer in a `map` over
single rows, as research code does, in as many processes. Each runs in a process of its own with a cold cache, in turn; imports
are not counted. Memory is the most that the process and its children held at once of pages that are not files' (RssAnon,
Linux): what is mapped from a disk can be dropped.

The text is drawn from a Zipf law of made-up words, so many of them a line, which is a row: 25 are a sentence of LM1B; the
longer lines are, the less it matters what a row costs beside its tokens. The tokenizer is a byte-level BPE of 8,000 tokens
that is trained on its beginning.
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
from pathlib import Path
from typing import NamedTuple

import numpy as np

WORDS = 30_000
TOKENS = 8_000


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


def words(random: np.random.Generator) -> list[str]:
    """Pronounceable words, short ones first."""
    syllables = [c + v for c in "bcdfghjklmnprstvwz" for v in ("a", "e", "i", "o", "u", "ai", "ou")]
    lengths = np.sort(random.integers(1, 5, WORDS))
    return ["".join(random.choice(syllables, length)) for length in lengths]


def write_text(path: Path, megabytes: int, line: int) -> None:
    random = np.random.default_rng(0)
    vocabulary = np.array(words(random), dtype=object)
    law = 1 / np.arange(1, WORDS + 1)
    law /= law.sum()
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1_000_000:
            lengths = random.poisson(line, 500) + 1
            drawn = iter(vocabulary[random.choice(WORDS, int(lengths.sum()), p=law)])
            file.writelines(" ".join(next(drawn) for _ in range(length)).capitalize() + ".\n" for length in lengths.tolist())


def write_tokenizer(folder: Path, text: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    def lines() -> Iterator[str]:
        with text.open(encoding="utf-8") as file:
            yield from (line for _, line in zip(range(2000), file, strict=False))

    backend = ByteLevelBPETokenizer()
    backend.train_from_iterator(lines(), vocab_size=TOKENS, show_progress=False)
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


def anonymous_megabytes(root: int) -> float:
    """Of a process and all that it started."""
    total, waiting = 0, [root]
    while waiting:
        place = Path(f"/proc/{waiting.pop()}")
        try:
            status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
            total += int(status.get("RssAnon", "0 kB").split()[0])
            waiting += [int(child) for task in place.glob("task/*/children") for child in task.read_text().split()]
        except (OSError, ValueError):  # it has just ended
            continue
    return total / 1000


def measured(side: str, text: Path, tokenizer: Path, processes: int) -> tuple[Costs, float]:
    """What it took, and megabytes at the peak."""
    with tempfile.TemporaryDirectory(dir=text.parent) as scratch:
        arguments = [side, str(text), str(tokenizer), scratch, str(processes)]
        child = subprocess.Popen([sys.executable, __file__, "--one", *arguments], stdout=subprocess.PIPE, text=True)
        peak = 0.0
        while child.poll() is None:
            peak = max(peak, anonymous_megabytes(child.pid))
            time.sleep(0.05)
        assert child.stdout is not None
        if child.returncode:
            raise SystemExit(f"{side} failed")
        wall, cpu = map(float, child.stdout.read().split()[-2:])
        return Costs(wall, cpu), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--words", type=int, default=25)
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        side, text, tokenizer, scratch, processes = wanted.one
        print(*SIDES[side](Path(text), Path(tokenizer), Path(scratch), int(processes)))
        return
    print("| text | by | seconds | CPU seconds | MB/s | ratio | ratio of CPU | peak memory, MB |\n" + "|---" * 8 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in wanted.megabytes:
            text, tokenizer = Path(folder) / f"{megabytes}.txt", Path(folder) / "tokenizer"
            write_text(text, megabytes, wanted.words)
            if not tokenizer.exists():
                write_tokenizer(tokenizer, text)
            sides = SIDES if megabytes == wanted.megabytes[0] else {"xlm": ours}
            figures = {side: measured(side, text, tokenizer, wanted.processes) for side in sides}
            for side, (costs, peak) in figures.items():
                base = figures.get("per-row map", (Costs(math.nan, math.nan), 0))[0]
                cells = [costs.wall, costs.cpu, megabytes / costs.wall, base.wall / costs.wall, base.cpu / costs.cpu]
                shown = " | ".join(f"{cell:.1f}" for cell in cells)
                print(f"| {megabytes} MB | {side} | {shown} | {peak:.0f} |", flush=True)
            text.unlink()


if __name__ == "__main__":
    main()
