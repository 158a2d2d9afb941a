"""Commands as a user types them, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def environment(cache: Path) -> dict[str, str]:
    """No network, one thread, and a cache that the tests share."""
    return os.environ | {
        "XLM_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "NO_COLOR": "1",
    }


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def command() -> list[str]:
    return [sys.executable, "-m", "xlm_core"]


@pytest.fixture
def xlm(tmp_path: Path, environment: dict[str, str], command: list[str]) -> Run:
    """Runs `xlm ARGUMENTS` in tmp_path; fails the test when the exit code is not the expected one."""

    def run(*arguments: str, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess:
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, input=stdin, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
