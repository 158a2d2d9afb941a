"""Wheels as hatchling builds them, and an environment in which pip installed them."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
OWN = [path.name.removeprefix("xlm-family-") for path in PLUGINS]


class Environment:
    """A virtual environment that sees what the tests' own has, behind what is installed in it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        scripts = "Scripts" if os.name == "nt" else "bin"
        self.python = folder / scripts / "python"
        names = {"base": str(folder), "platbase": str(folder)}
        self.site = Path(sysconfig.get_path("purelib", "venv", names))
        (self.site / "tests.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")

    def pip(self, *arguments: str | Path) -> None:
        quiet = ("--no-deps", "--no-index", "--no-build-isolation", "--no-compile", "--quiet", "--disable-pip-version-check")
        command = [self.python, *_pip(), "install", *quiet, *arguments]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def script(self, code: str, *arguments: str) -> subprocess.CompletedProcess:
        """Run Python code."""
        return self._run("-c", code, *arguments)

    def __call__(self, *arguments: str, path: str = "", own: bool = False) -> subprocess.CompletedProcess:
        """Run the `xlm` of the environment, from outside the tree.

        Args:
            path: a folder in front of what is installed.
            own: see the tree's own families too.
        """
        return self._run("-m", "xlm_core", *arguments, PYTHONPATH=path, XLM_DISABLE_FAMILIES="" if own else ",".join(OWN))

    def _run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": "", "XLM_DISABLE_FAMILIES": ",".join(OWN), **variables}
        command = [str(self.python), *arguments]
        return subprocess.run(command, cwd=self.site.parent, env=environment, capture_output=True, text=True)


def _pip() -> list[str]:
    """pip of the tests' environment, or the one that Python brings: environments made by uv have none."""
    if find_spec("pip") is not None:
        return ["-m", "pip"]
    import ensurepip

    return [str(next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")) / "pip")]


@pytest.fixture(scope="session")
def build():
    """Makes the wheel of a project folder."""

    def build(project: Path, out: Path) -> Path:
        [wheel] = WheelBuilder(str(project)).build(directory=str(out), versions=["standard"])
        return Path(wheel)

    return build


@pytest.fixture(scope="session")
def core(build, tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="session")
def environment():
    """Makes an environment in a folder."""
    return Environment
