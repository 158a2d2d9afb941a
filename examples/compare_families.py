"""Train every installed family on one data set, each with its preset for this kind of machine, and print one table.

    python examples/compare_families.py [--data star_easy] [--preset cpu] [--families ilm,mlm] [OVERRIDE ...]

Overrides are Hydra's and go to every family, as `trainer.max_steps=100`. A family without such a preset is left out, which is
said. Where answers are right or wrong, that is compared; elsewhere likelihoods are, exact ones and bounds in columns of their
own, if all runs treated the text alike. The table is Markdown; the runs are under runs/<family>/<data>/, where `xlm eval` and
`xlm generate` find them. Seconds to train are those of the whole run, its evaluations included.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from xlm_core import compose, composition, families, load_family, run
from xlm_core.config import RunConfig
from xlm_core.errors import ConfigError
from xlm_core.evaluation.statistics import Estimate

QUALITY = ["test/exact_match", *(f"test/{name}{kind}" for name in ("perplexity", "bits_per_byte") for kind in ("", "_bound"))]
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
    measured = run.compare([row.folder for row in rows])
    quality = [name for name in QUALITY if name in measured.metrics]
    quality = quality[:1] if quality[:1] == ["test/exact_match"] else quality
    for name in QUALITY:
        if name in measured.refused:
            print(f"{name} is not compared: {measured.refused[name]}", file=sys.stderr)
    titles = [name.removeprefix("test/").replace("_", " ") for name in quality]
    columns = ["family", *titles, "NFE", "seconds to train", "seconds per 1,000 decoded rows"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for row in rows:
        found = {name: of[str(row.folder)] for name, of in measured.metrics.items() if str(row.folder) in of}
        cells = [shown(found[name]) if name in found else "" for name in quality]
        nfe = f"{found['test/nfe'].value:.2f}" if "test/nfe" in found else ""
        print(f"| {' | '.join([row.family, *cells, nfe, f'{row.trained:.0f}', f'{row.decoded:.2f}'])} |")


@dataclass(frozen=True)
class Row:
    """A family's run."""

    family: str
    folder: Path
    trained: float
    """Seconds."""
    decoded: float
    """Seconds per 1,000 rows."""


def one(name: str, data: str, preset: str, overrides: list[str]) -> Row | None:
    """A family trained and measured, or None for one that has no such preset."""
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
    return Row(name, result.directory, trained, seconds_a_thousand(config, result.directory))


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
