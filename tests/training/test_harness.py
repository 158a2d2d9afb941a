"""Training against a bare PyTorch loop; evaluation against sums over rows; checkpoints and resuming bit for bit."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
from pathlib import Path

import pytest
import regression
import torch
from lightning.pytorch import Callback

from xlm_core.errors import CheckpointError, Interrupted, XlmError
from xlm_core.training import checkpoints, trainer
from xlm_core.training.accumulation import accumulation
from xlm_core.training.harness import Harness


def fit(folder: Path, cfg, harness: Harness, *, resume: Path | None = None, callbacks: list[Callback] | None = None) -> Harness:
    runner = trainer.fitter(cfg, folder)
    runner.callbacks[:0] = callbacks or []  # type: ignore[attr-defined]
    micro = cfg.trainer.batch_size // accumulation(cfg.trainer)
    data = regression.Rows(cfg.trainer.batch_size, micro)
    runner.fit(harness, datamodule=data, ckpt_path=resume, weights_only=True)
    return harness


def weights(harness: Harness) -> list[torch.Tensor]:
    return [p.detach().clone() for p in harness.parameters()]


def bare_loop(steps: int, batch: int, clip: float = 1.0) -> list[list[torch.Tensor]]:
    """The same training without Lightning or accumulation: weights after each step."""
    harness = regression.make(Path("unused"))
    parameters = list(harness.parameters())
    adamw = torch.optim.AdamW(
        [{"params": [parameters[0]], "weight_decay": 0.1}, {"params": [parameters[1]], "weight_decay": 0.0}], lr=1.0
    )
    history = []
    for step in range(steps):
        rows = [regression.row(draw) for draw in range(step * batch, (step + 1) * batch)]
        x, y, w = (torch.stack([row[key] for row in rows]) for key in ("x", "y", "weight"))
        loss = ((harness.model(x)[:, 0] - y) ** 2 * w).sum() / w.sum()
        adamw.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, clip)
        progress = max(0, step - 2) / max(1, steps - 2)
        adamw.param_groups[0]["lr"] = adamw.param_groups[1]["lr"] = 0.05 * (
            (step + 1) / 2 if step < 2 else 0.5 * (1 + math.cos(math.pi * progress))
        )
        adamw.step()
        history.append([p.detach().clone() for p in parameters])
    return history


@pytest.mark.parametrize("micro", [8, 4, 2, 1])
def test_micro_batches_of_unequal_weight_train_like_one_batch(tmp_path, micro):
    found = weights(fit(tmp_path, regression.config(6, 8, micro), regression.make(tmp_path)))
    for ours, theirs in zip(found, bare_loop(6, 8)[-1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_checkpoint_holds_the_exponential_average_and_the_weights_themselves(tmp_path):
    fit(tmp_path, regression.config(5, 8, 8, ema=0.5, every=5), regression.make(tmp_path))
    history = bare_loop(5, 8)
    average = history[0]
    for n, current in enumerate(history[1:], start=1):
        keep = min(0.5, (1 + n) / (10 + n))
        average = [keep * a + (1 - keep) * c for a, c in zip(average, current, strict=True)]
    content = torch.load(checkpoints.newest(tmp_path / "checkpoints"), weights_only=True)
    for name, expected in (("state_dict", average), ("current_model_state", history[-1])):
        for ours, theirs in zip(content[name].values(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_resuming_is_bit_for_bit_with_dropout_accumulation_average_and_schedule(tmp_path):
    cfg = regression.config(12, 8, 4, ema=0.9, every=5, eval_every=4, keep_last=5)
    whole = fit(tmp_path / "whole", cfg, regression.make(tmp_path / "whole", dropout=0.5))
    start = tmp_path / "whole" / "checkpoints" / "step_00000005.ckpt"
    again = fit(tmp_path / "again", cfg, regression.make(tmp_path / "again", dropout=0.5), resume=start)
    for a, b in zip(weights(whole), weights(again), strict=True):
        assert torch.equal(a, b)
    first, second = (
        torch.load(checkpoints.newest(tmp_path / name / "checkpoints"), weights_only=True) for name in ("whole", "again")
    )
    assert first["global_step"] == second["global_step"] == 12
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])


def test_evaluation_is_of_all_rows_whatever_the_batches(tmp_path):
    found = []
    for size in (7, 40, 1):
        harness = regression.make(tmp_path / str(size))
        cfg = regression.config(1, 8, 8)
        harness.weights_step = 9
        trainer.evaluator(cfg.trainer, tmp_path).test(harness, datamodule=regression.Rows(8, 8, size), verbose=False)
        found.append(harness.estimates)
        lines = (tmp_path / str(size) / "predictions" / "test_prediction_step0000009.jsonl").read_text().splitlines()
        assert [json.loads(line)["row"] for line in lines] == list(range(regression.ROWS))
    with torch.no_grad():
        rows = [regression.row(draw) for draw in range(regression.ROWS)]
        x, y, w = (torch.stack([row[key] for row in rows]) for key in ("x", "y", "weight"))
        expected = float((((harness.model(x)[:, 0] - y) ** 2) * w).sum() / w.sum())
    for estimates in found:
        assert estimates["test/nll"].value == pytest.approx(expected, rel=1e-5)
        assert estimates["test/perplexity_bound"].value == pytest.approx(math.exp(expected), rel=1e-5)
        assert estimates["test/nfe"].value == pytest.approx(sum(d % 3 for d in range(40)) / 40)
        assert estimates["test/nll"].stderr == pytest.approx(found[0]["test/nll"].stderr, rel=1e-6)


def test_validation_uses_the_average_and_leaves_training_alone(tmp_path):
    with_validation = fit(
        tmp_path / "a", regression.config(9, 8, 8, ema=0.9, eval_every=2), regression.make(tmp_path / "a", dropout=0.5)
    )
    without = fit(tmp_path / "b", regression.config(9, 8, 8, ema=0.9), regression.make(tmp_path / "b", dropout=0.5))
    for a, b in zip(weights(with_validation), weights(without), strict=True):
        assert torch.equal(a, b)


def test_old_checkpoints_are_thinned_and_the_best_is_kept(tmp_path):
    fit(
        tmp_path,
        regression.config(10, 8, 8, every=1, eval_every=2, keep_last=2, keep_every=4),
        regression.make(tmp_path, lr=0.5),
    )
    folder = tmp_path / "checkpoints"
    assert [checkpoints.step_of(path) for path in checkpoints.periodic(folder)] == [4, 8, 9, 10]
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "validation/nll"]
    best = min(rows, key=lambda row: float(row["value"]))
    assert torch.load(checkpoints.locate(folder, "best"), weights_only=True)["global_step"] == int(best["step"])
    assert not list(folder.glob("*.writing"))


def test_a_nan_stops_the_run_and_never_reaches_a_checkpoint(tmp_path):
    cfg = regression.config(20, 8, 8, every=2, keep_last=20)
    with pytest.raises(XlmError, match="NaN or infinite"):
        fit(tmp_path, cfg, regression.make(tmp_path, poison_at=40))
    for path in checkpoints.periodic(tmp_path / "checkpoints"):
        assert all(torch.isfinite(value).all() for value in torch.load(path, weights_only=True)["state_dict"].values())
    assert checkpoints.step_of(checkpoints.newest(tmp_path / "checkpoints")) == 4


class Kill(Callback):
    """Comes before the callback that looks for signals."""

    def on_train_batch_end(self, runner, module, outputs, batch, batch_idx):
        if batch_idx == 5:  # in the middle of an accumulation
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_saves_at_the_next_step_and_the_run_can_go_on(tmp_path):
    cfg = regression.config(12, 8, 2, every=100)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM at step 2") as caught:
        fit(tmp_path / "killed", cfg, regression.make(tmp_path / "killed", dropout=0.5), callbacks=[Kill()])
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) == before
    start = checkpoints.newest(tmp_path / "killed" / "checkpoints")
    resumed = fit(tmp_path / "killed", cfg, regression.make(tmp_path / "killed", dropout=0.5), resume=start)
    whole = fit(tmp_path / "whole", cfg, regression.make(tmp_path / "whole", dropout=0.5))
    for a, b in zip(weights(resumed), weights(whole), strict=True):
        assert torch.equal(a, b)


def test_a_torn_checkpoint_is_passed_over(tmp_path):
    fit(tmp_path, regression.config(4, 8, 8, every=2, keep_last=5), regression.make(tmp_path))
    newest = checkpoints.newest(tmp_path / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:100])
    assert checkpoints.step_of(checkpoints.newest(tmp_path / "checkpoints")) == 2


def test_missing_and_foreign_checkpoints_are_said(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoints.locate(tmp_path, "best")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        checkpoints.locate(tmp_path, str(tmp_path / "nothing.ckpt"))
    torch.save({"state_dict": {"model.other": torch.zeros(1)}, "global_step": 1}, tmp_path / "foreign.ckpt")
    made = regression.make(tmp_path)
    with pytest.raises(CheckpointError, match="does not fit this model"):
        checkpoints.load_weights(tmp_path / "foreign.ckpt", model=made.model, loss=made.loss, predictor=made.predictor)


def test_metrics_file_of_a_resumed_run_has_each_step_once(tmp_path):
    cfg = regression.config(12, 8, 8, every=5, keep_last=5)
    cfg.trainer.log_every = 1
    fit(tmp_path, cfg, regression.make(tmp_path))
    fit(tmp_path, cfg, regression.make(tmp_path), resume=tmp_path / "checkpoints" / "step_00000005.ckpt")
    with (tmp_path / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["metric"] == "train/loss"]
    assert steps == list(range(1, 13))
