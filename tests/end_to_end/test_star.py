"""A whole run on star graphs, as a user types it; killed, interrupted, resumed, on one process and on two."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TINY = (
    "model=ilm_tiny",
    "model.dim=32",
    "model.layers=2",
    "model.heads=2",
    "model.dropout=0.1",
    "scheduler.warmup_steps=2",
    "trainer.batch_size=8",
    "trainer.micro_batch_size=4",
    "trainer.eval_batch_size=16",
    "trainer.log_every=1",
    "data.splits.train.rows=64",
    "data.splits.validation.rows=8",
    "data.splits.test.rows=21",
    "data.workers=0",
)


def train(steps: int, *more: str, family: str = "ilm") -> list[str]:
    model = [f"model={family}_tiny", *TINY[1:]]
    return ["train", "--family", family, "--data", "star_easy", "--no-recipe", f"trainer.max_steps={steps}", *model, *more]


def only_run(folder: Path) -> Path:
    (config,) = folder.glob("runs/*/*/*/config.yaml")
    return config.parent


def state(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_equal_runs(first: Path, second: Path) -> None:
    a, b = (state(max((run / "checkpoints").glob("step_*.ckpt"))) for run in (first, second))
    assert a["global_step"] == b["global_step"]
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(a[part][name], b[part][name]) for name in a[part])
    moments = zip(a["optimizer_states"][0]["state"].values(), b["optimizer_states"][0]["state"].values(), strict=True)
    assert all(torch.equal(x["exp_avg"], y["exp_avg"]) for x, y in moments)


def test_a_run_leaves_what_the_readme_says_and_can_be_evaluated_and_sampled(xlm, tmp_path):
    done = xlm(*train(6, "trainer.eval_every=3", "--json"))
    printed = json.loads(done.stdout)
    folder = only_run(tmp_path)
    assert {path.name for path in folder.iterdir()} >= {
        "config.yaml", "environment.json", "metrics.csv", "checkpoints", "predictions", "results", "train.log", "tokenizer"
    }  # fmt: skip
    assert printed["metrics"]["test/exact_match"]["n"] == 21
    assert "step " in done.stderr
    assert "insert" in done.stderr  # the sample, with the order of its insertions

    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["metric"] == "train/loss"] == [1, 2, 3, 4, 5, 6]
    assert {row["step"] for row in rows if row["metric"] == "validation/exact_match"} == {"3", "6"}

    lines = [json.loads(line) for line in next((folder / "predictions").glob("test_*.jsonl")).read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(21))
    hits = sum(line["text"] == line["target"] for line in lines)
    assert printed["metrics"]["test/exact_match"]["value"] == pytest.approx(hits / 21)

    for size in (1, 16):
        again = json.loads(xlm("eval", "latest", "--json", f"trainer.eval_batch_size={size}").stdout)
        for name, estimate in printed["metrics"].items():
            assert again["metrics"][name]["value"] == pytest.approx(estimate["value"], rel=1e-4), name

    warm = ("predictor.gap.temperature=1", "predictor.token.temperature=1", "--json")
    samples = [xlm("generate", "latest", "-n", "3", "--seed", seed, *warm).stdout for seed in ("1", "1", "2")]
    assert samples[0] == samples[1] != samples[2]
    prompted = json.loads(xlm("generate", str(folder), "--prompt", "3 4 4 5 3 5", "--json").stdout)
    assert prompted["prompt"] == "3 4 4 5 3 5"
    assert "insert" in xlm("generate", str(folder), "--prompt", "3 4 4 5 3 5", "--watch").stdout


KILLED = """
import os, signal, sys
from xlm_core.cli.app import main
from xlm_core.training.harness import Harness

step = Harness.training_step

def last(self, batch, batch_idx):
    if self.global_step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

Harness.training_step = last
main(sys.argv[1:])
"""


def test_a_killed_run_resumes_to_the_same_weights(xlm, tmp_path, environment):
    steps = 14
    often = ("checkpoint.every=3", "trainer.eval_every=5")
    xlm(*train(steps, *often, "hydra.run.dir=whole"))
    arguments = train(steps, *often, "hydra.run.dir=runs/ilm/star_easy/killed")
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=tmp_path, env=environment, timeout=300)
    assert done.returncode == -signal.SIGKILL
    killed = tmp_path / "runs/ilm/star_easy/killed"
    assert max((killed / "checkpoints").glob("step_*.ckpt")).name == "step_00000006.ckpt"
    done = xlm("train", "--resume", "auto")
    assert "resume" in done.stderr
    assert_equal_runs(tmp_path / "whole", killed)
    with (killed / "metrics.csv").open() as file:
        rows = [int(row["step"]) for row in csv.DictReader(file) if row["metric"] == "train/loss"]
    assert rows == list(range(1, steps + 1))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_leaves_a_checkpoint_and_exits_130(command, tmp_path, environment, name):
    process = subprocess.Popen(
        [*command, *train(100000)], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("step 2/"):
            process.send_signal(signal.Signals[name])
            break
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130, "".join(seen) + rest
    assert f"error: stopped by {name}" in rest
    assert "hint: Continue with --resume auto." in rest
    assert "Traceback" not in rest
    (checkpoint,) = (only_run(tmp_path) / "checkpoints").glob("step_*.ckpt")
    assert state(checkpoint)["global_step"] >= 2


def test_two_ranks_train_like_one_and_predict_every_row_once(xlm, tmp_path):
    loose = ("ema.decay=0", "model.dropout=0", "trainer.eval_every=4", "checkpoint.best=false")
    one = json.loads(xlm(*train(4, *loose, "hydra.run.dir=one", "--json")).stdout)
    two = json.loads(xlm(*train(4, *loose, "hydra.run.dir=two", "--json", "trainer.devices=2")).stdout)

    def curve(name: str) -> dict[tuple[str, str], float]:
        with (tmp_path / name / "metrics.csv").open() as file:
            return {
                (row["step"], row["metric"]): float(row["value"])
                for row in csv.DictReader(file)
                if row["metric"].startswith("validation")
            }

    first, second = curve("one"), curve("two")
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert second[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    for name, estimate in one["metrics"].items():
        assert two["metrics"][name]["n"] == estimate["n"]
        assert two["metrics"][name]["value"] == pytest.approx(estimate["value"], rel=1e-4, abs=1e-6), name
    lines = [
        json.loads(line) for line in next((tmp_path / "two" / "predictions").glob("test_*.jsonl")).read_text().splitlines()
    ]
    assert [line["row"] for line in lines] == list(range(21))


def test_arlm_runs_on_the_same_data(xlm):
    found = json.loads(xlm(*train(3, "--json", family="arlm")).stdout)["metrics"]
    assert found["test/perplexity"]["value"] == pytest.approx(torch.tensor(found["test/nll"]["value"]).exp().item(), rel=1e-4)
    assert found["test/nll"]["stderr"] > 0


def test_slips_end_in_one_error_and_one_hint(xlm):
    for arguments, code, words in (
        (["train", "--family", "ilm", "--data", "star_eazy"], 2, "star_easy"),
        (["train", "--family", "ilmm", "--data", "star_easy"], 3, "ilm"),
        (train(3, "trainer.batch_sise=4"), 2, "batch_size"),
        (["eval", "no/such/run"], 2, "run folder"),
    ):
        error = xlm(*arguments, code=code).stderr
        assert error.count("error: ") == 1
        assert error.count("hint: ") == 1
        assert words in error
        assert "Traceback" not in error
