"""Train every installed family on one data set, each with its preset for this kind of machine, and print one table.

    python examples/compare_families.py [--data star_easy] [--preset cpu] [--families ilm,mlm] [OVERRIDE ...]

Overrides are Hydra's and go to every family, as `trainer.max_steps=100`. A family without such a preset is left out, which is
said. The table is Markdown; the runs are under runs/<family>/<data>/, where `xlm eval` and `xlm generate` find them. Seconds to
train are those of the whole run, its evaluations included.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from xlm_core import compose, composition, families, load_family, run
from xlm_core.config import RunConfig
from xlm_core.errors import ConfigError
from xlm_core.evaluation.statistics import Estimate

TIMED = 1000
"""Test rows that are decoded for the clock, in batches of `trainer.eval_batch_size`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="star_easy")
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--families", type=lambda names: names.split(","), default=sorted(families.installed()))
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for every family")
    wanted = parser.parse_intermixed_args()
    rows = [row for name in wanted.families if (row := one(name, wanted.data, wanted.preset, wanted.overrides))]
    print("| family | exact match | NFE | seconds to train | seconds per 1,000 decoded rows |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def one(name: str, data: str, preset: str, overrides: list[str]) -> list[str] | None:
    """A row of the table, or None for a family that has no such preset."""
    try:
        recipe = composition.recipe(data, name, preset)
    except ConfigError as error:
        print(f"{name} is left out: {error}", file=sys.stderr)
        return None
    family = load_family(name)
    arguments = [f"family={name}", f"data={data}", f"experiment={recipe}", *overrides]
    config = composition.check(compose(arguments, [name]), family)
    began = time.perf_counter()
    result = run.train(config, family, Path("runs") / name / data / time.strftime("compared-%Y-%m-%d_%H-%M-%S"))
    trained = time.perf_counter() - began
    found, decoded = result.metrics, seconds_a_thousand(config, result.directory)
    return [name, shown(found["test/exact_match"]), f"{found['test/nfe'].value:.2f}", f"{trained:.0f}", f"{decoded:.2f}"]


def seconds_a_thousand(config: RunConfig, folder: Path) -> float:
    """The first batch is decoded before the clock starts, so that start-up is not in it."""
    size = config.trainer.eval_batch_size or config.trainer.micro_batch_size
    rows = run.generate(folder, prompts=None, n=TIMED + size)
    for _ in range(size):
        next(rows)
    began = time.perf_counter()
    count = sum(1 for _ in rows)
    return (time.perf_counter() - began) / count * 1000


def shown(estimate: Estimate) -> str:
    return f"{estimate.value:.4f}" if estimate.stderr is None else f"{estimate.value:.4f} ± {estimate.stderr:.4f}"


if __name__ == "__main__":
    main()
