"""Repositories of new families, installed from the wheels that they build."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from xlm_core.scaffold import repository


def wheel_of(folder: Path, out: Path) -> Path:
    """The wheel of a project, as its build backend makes it."""
    [wheel] = WheelBuilder(str(folder)).build(directory=str(out), versions=["standard"])
    return Path(wheel)


@pytest.fixture
def install(site, tmp_path):
    """Build a project's wheel and unpack it where this process, and those that it starts, import from."""

    def install(folder: Path) -> list[str]:
        wheel = wheel_of(folder, tmp_path / "dist")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site.folder)
            found = archive.namelist()
        importlib.invalidate_caches()
        return found

    return install


@pytest.fixture
def grow(install, tmp_path):
    """Write the repository of a new family and install it."""

    def grow(name: str, template: str = repository.MINIMAL) -> Path:
        folder = repository.write(name, template, tmp_path / "repositories" / name)
        install(folder)
        return folder

    return grow
