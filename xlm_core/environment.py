"""What a run ran on, and the log file of a run."""

from __future__ import annotations

import logging
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import importlib_metadata

if TYPE_CHECKING:
    from xlm_core.families import FamilyRecord

PACKAGES = ("xlm-core", "torch", "lightning", "hydra-core", "transformers", "datasets", "tokenizers", "numpy")


def describe(family: FamilyRecord) -> dict[str, Any]:
    """Versions, platform, command and git state, for environment.json."""
    import torch

    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib_metadata.version(name) for name in PACKAGES},
        "family": {"name": family.name, "distribution": family.distribution, "version": family.version},
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or [platform.processor() or "cpu"],
        "threads": torch.get_num_threads(),
        "git": {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain"))},
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what is logged, warnings included, to a file."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        handler.close()
