"""Train and sample without the command line.

    python examples/train_in_python.py FILE.txt [FOLDER]

Trains a small left-to-right model on the lines of a text file for a few steps, evaluates it, and prints two samples.
"""

from __future__ import annotations

import sys
from pathlib import Path

from xlm_core import compose, load_family, run
from xlm_core.composition import check


def main(text: str, folder: str = "runs/arlm/text/from_python") -> None:
    family = load_family("arlm")
    overrides = [
        "family=arlm",
        "data=text",
        f"data.path={Path(text).resolve()}",
        "data.length=32",
        "model=arlm_tiny",
        "trainer.max_steps=20",
        "trainer.batch_size=16",
        "trainer.micro_batch_size=16",
        "scheduler.warmup_steps=5",
    ]
    config = check(compose(overrides, ["arlm"]), family)
    result = run.train(config, family, Path(folder))
    for name, estimate in result.metrics.items():
        print(f"{name}: {estimate}")
    for sample in run.generate(result.directory, prompts=["The "], n=2, seed=1):
        print(repr(sample.text))


if __name__ == "__main__":
    main(*sys.argv[1:])
