"""The comparison of families from one command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "compare_families.py"
SHORT = ("trainer.max_steps=2", "scheduler.warmup_steps=1", "trainer.batch_size=8", "trainer.micro_batch_size=8")
FEW = ("trainer.eval_batch_size=16", "data.splits.train.rows=32", "data.splits.validation.rows=8", "data.splits.test.rows=40")


def test_its_table_holds_what_the_runs_measured(tmp_path, environment):
    command = [sys.executable, str(EXAMPLE), "--families", "arlm,ilm", *SHORT, *FEW, "data.workers=0"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if line.startswith("|")]
    assert [row[0] for row in table[2:]] == ["arlm", "ilm"]
    for name, match, nfe, trained, decoded in table[2:]:
        (path,) = tmp_path.glob(f"runs/{name}/star_easy/*/results/test_*.json")
        measured = json.loads(path.read_text())["metrics"]
        assert measured["test/exact_match"]["n"] == 40
        assert float(match.split(" ±")[0]) == pytest.approx(measured["test/exact_match"]["value"], abs=5e-5)
        assert float(nfe) == pytest.approx(measured["test/nfe"]["value"], abs=5e-3)
        assert float(trained) >= 0
        assert float(decoded) > 0


def test_a_family_without_the_preset_is_left_out(tmp_path, environment):
    command = [sys.executable, str(EXAMPLE), "--families", "arlm", "--preset", "nosuch"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert "arlm is left out: arlm on star_easy has no preset 'nosuch'" in done.stderr
    assert len(done.stdout.splitlines()) == 2
