"""The example of a task from outside: one YAML, one function, no change to core."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_task"
SHORT = ("trainer.max_steps=2", "scheduler.warmup_steps=1", "trainer.batch_size=4", "trainer.micro_batch_size=4")
SMALL = ("model.dim=32", "model.layers=2", "model.heads=2")


def test_it_is_shown_and_trained_on(xlm, tmp_path):
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    mine = ("--config-dir", ".")
    example = json.loads(xlm("data", "show", "sort_letters", *mine, "--json").stdout)["example"]
    assert example["prompt"] == (tmp_path / "words.txt").read_text().split()[0]
    assert example["input"] == "".join(sorted(example["prompt"]))
    arguments = ("train", "-f", "arlm", "-d", "sort_letters", *mine, "model=arlm_tiny", *SMALL, *SHORT)
    found = json.loads(xlm(*arguments, "--json").stdout)
    words = (tmp_path / "words.txt").read_text().split()
    assert found["metrics"]["test/exact_match"]["n"] == len(words) - round(0.9 * len(words))
    assert found["policy"]["detokenizer"]["function"] == "sort_letters.preprocess"
