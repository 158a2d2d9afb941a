"""How long `xlm families list` takes beside an empty Python, with many plugins installed.

    python tests/benchmarks/listing.py [--plugins 30] [--rounds 7]

The best of several rounds is printed: anything slower is what else the machine does. CPU seconds do not depend on that.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "xlm --help": ("-m", "xlm_core", "--help"),
    "xlm families list": ("-m", "xlm_core", "families", "list"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plugins", type=int, default=30, help="dummy plugins beside those that are installed")
    parser.add_argument("--rounds", type=int, default=7)
    wanted = parser.parse_args()
    with TemporaryDirectory() as folder:
        site = dummies().Site(Path(folder))
        for number in range(wanted.plugins):
            site.install(f"dummy{number}")
        print("| command | seconds | CPU seconds |\n|---|---|---|")
        for name, arguments in COMMANDS.items():
            wall, busy = zip(*(clock(arguments, folder) for _ in range(wanted.rounds)), strict=True)
            print(f"| {name} | {min(wall):.3f} | {min(busy):.3f} |")


def clock(arguments: tuple[str, ...], path: str) -> tuple[float, float]:
    """Wall and CPU seconds of a Python that has the dummies on its path."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def dummies() -> Any:
    """The tests' installer of plugins."""
    spec = importlib.util.spec_from_file_location("dummies", Path(__file__).parents[1] / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
