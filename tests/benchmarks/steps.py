"""Milliseconds of a training step and of a decoded row, family by family. Run by hand; nothing here is a test.

    python tests/benchmarks/steps.py [--data star_easy] [--preset cpu] [--families ilm,mlm] [--steps 50] [OVERRIDE ...]

`bare` is forward, backward, clipping and AdamW on batches that lie ready, in a plain loop; `harness` is the same step as
`xlm train` does it, data and averaged weights included. Their ratio is what the library costs. Medians; compare figures of one
run only.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import lightning
import torch

from xlm_core import compose, composition, families, load_family, run
from xlm_core.config import RunConfig
from xlm_core.families import Family
from xlm_core.training import trainer
from xlm_core.training.data import DataModule

WARM_UP = 5


class Clock(lightning.Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.times.append(time.perf_counter())


def median_ms(times: list[float]) -> float:
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[WARM_UP:])]
    return 1000 * statistics.median(gaps)


def bare(config: RunConfig, family: Family, steps: int) -> float:
    parts = run.build(config, family)
    collate, size = parts.collate("train"), config.trainer.batch_size
    parts.data.prepare()
    rows = parts.data.examples("train")
    batches = [collate(rows.__getitems__(range(i * size, (i + 1) * size))) for i in range(8)]
    optimizer = torch.optim.AdamW(parts.model.parameters(), lr=1e-4, fused=True)
    parts.model.train()
    times = []
    for step in range(steps):
        optimizer.zero_grad()
        parts.loss(batches[step % len(batches)], seed=step).loss.backward()
        torch.nn.utils.clip_grad_norm_(parts.model.parameters(), 1.0)
        optimizer.step()
        times.append(time.perf_counter())
    return median_ms(times)


def harness(config: RunConfig, family: Family, steps: int) -> float:
    parts, clock = run.build(config, family), Clock()
    with tempfile.TemporaryDirectory() as folder:
        fitter = trainer.fitter(config, Path(folder))
        fitter.callbacks.append(clock)  # type: ignore[attr-defined]
        fitter.fit(run.harness(config, family, parts, Path(folder)), datamodule=DataModule(parts.data))
    return median_ms(clock.times)


def decode(config: RunConfig, family: Family) -> float:
    parts = run.build(config, family)
    parts.data.prepare()
    size = config.trainer.eval_batch_size or config.trainer.micro_batch_size
    batch = parts.collate("predict")(parts.data.examples("test").__getitems__(range(size)))
    parts.model.eval()
    times = [time.perf_counter()]
    for seed in range(3):
        parts.predictor.predict(batch, seed=seed)
        times.append(time.perf_counter())
    return 1000 * min(later - earlier for earlier, later in itertools.pairwise(times)) / size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="star_easy")
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--families", type=lambda names: names.split(","), default=sorted(families.installed()))
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("overrides", nargs="*")
    wanted = parser.parse_intermixed_args()
    print("| family | bare, ms | harness, ms | ratio | decoding (untrained weights), ms a row |\n|---|---|---|---|---|")
    for name in wanted.families:
        family = load_family(name)
        recipe = composition.recipe(wanted.data, name, wanted.preset)
        arguments = [f"family={name}", f"data={wanted.data}", f"experiment={recipe}", f"trainer.max_steps={wanted.steps}"]
        quiet = [
            "trainer.eval_every=1000000",
            "checkpoint.every=1000000",
            "trainer.log_every=1000000",
            "scheduler.warmup_steps=1",
        ]
        config = composition.check(compose([*arguments, *quiet, *wanted.overrides], [name]), family)
        a, b = bare(config, family, wanted.steps), harness(config, family, wanted.steps)
        print(f"| {name} | {a:.1f} | {b:.1f} | {b / a:.2f} | {decode(config, family):.2f} |", flush=True)


if __name__ == "__main__":
    main()
