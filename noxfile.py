"""What a release must pass. `nox` runs all of it, `nox -s tests` what one runs every day."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
AUTHORS = DIST / "authors"
GUIDE = ROOT / "examples" / "draft_and_revise.md"
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
PINS = re.findall(r"^[\w-]+==\S+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
"""The versions that requirements.txt asks for: a torch that has a CPU build."""

# uv does not read pip's settings, and leaves to the first import what pip compiles.
os.environ.setdefault("UV_COMPILE_BYTECODE", "1")
if "PIP_FIND_LINKS" in os.environ:
    os.environ.setdefault("UV_FIND_LINKS", os.environ["PIP_FIND_LINKS"])


def wheel_of(project: str) -> str:
    return str(next(DIST.glob(f"{project.replace('-', '_')}-*.whl")))


def leave_the_tree(session: nox.Session) -> None:
    """Go where only what is installed can be imported, and see that it is so."""
    session.chdir(session.create_tmp())
    session.run("python", "-c", "import xlm_core; assert 'site-packages' in xlm_core.__file__, xlm_core.__file__")


@nox.session
def tests(session: nox.Session) -> None:
    """Every test, in the environment of the README."""
    session.install("-r", "requirements-dev.txt")
    session.run("pytest", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The wheels of core and of all plugins."""
    session.install("hatchling")
    shutil.rmtree(DIST, ignore_errors=True)
    for project in (ROOT, *(ROOT / "plugins" / plugin for plugin in PLUGINS)):
        session.chdir(project)
        session.run("hatchling", "build", "-t", "wheel", "-d", str(DIST))


@nox.session(requires=["build"])
@nox.parametrize("plugin", PLUGINS, ids=PLUGINS)
def wheel(session: nox.Session, plugin: str) -> None:
    """One plugin beside core, both from wheels: it needs nothing of the tree and of its neighbours."""
    session.install(*PINS, f"{wheel_of('xlm-core')}[dev]", wheel_of(plugin))
    leave_the_tree(session)
    session.run("pytest", *session.posargs, str(ROOT / "plugins" / plugin / "tests"))
    session.run("xlm", "families", "list")


@nox.session(requires=["build"])
def together(session: nox.Session) -> None:
    """Every test, with core and all plugins from wheels."""
    session.install(*PINS, f"{wheel_of('xlm-core')}[dev]", *map(wheel_of, PLUGINS))
    leave_the_tree(session)
    session.run("pytest", *session.posargs, str(ROOT / "tests"), str(ROOT / "plugins"))


@nox.session(requires=["build"])
def alone(session: nox.Session) -> None:
    """Core without any plugin: it helps, lists nothing, and says what to install."""
    session.install(*PINS, wheel_of("xlm-core"))
    leave_the_tree(session)
    session.run("xlm", "--help", silent=True)
    session.run("xlm", "families", "list")
    session.run("xlm", "train", "--family", "ilm", "--data", "star_easy", success_codes=[3])


@nox.session(requires=["build"])
def author(session: nox.Session) -> None:
    """An author who has core's wheel and nothing else writes a family, and builds its wheel."""
    session.install(*PINS, wheel_of("xlm-core"), "hatchling")
    leave_the_tree(session)
    shutil.rmtree(AUTHORS, ignore_errors=True)
    session.run("xlm", "families", "new", "demo_family", "--to", str(AUTHORS / "repository"))
    session.chdir(AUTHORS / "repository")
    session.run("hatchling", "build", "-t", "wheel", "-d", str(AUTHORS))


@nox.session(requires=["author"])
def authors(session: nox.Session) -> None:
    """That wheel beside core's in another environment: trained, checked, tested; then the author's guide."""
    [family] = AUTHORS.glob("*.whl")
    session.install(*PINS, wheel_of("xlm-core"), str(family), "pip", "pytest")
    leave_the_tree(session)
    short = ("trainer.max_steps=20", "scheduler.warmup_steps=5", "data.splits.test.rows=100")
    session.run("xlm", "train", "--family", "demo_family", "--data", "star_easy", "--preset", "cpu", *short)
    session.run("xlm", "families", "check", "demo_family")
    session.run("pytest", "-k", "not TestConformance", str(AUTHORS / "repository"))
    blocks = re.findall(r"^```(\w+)\n(?:# (\S+\.\w+)\n)?(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    folder = Path(session.create_tmp()) / "guide"
    shutil.rmtree(folder, ignore_errors=True)
    for _, path, text in blocks:
        if path:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    session.chdir(folder)
    session.run("bash", "-euxc", "".join(text for language, _, text in blocks if language == "bash"), external=True)


@nox.session(venv_backend="virtualenv")
def minimums(session: nox.Session) -> None:
    """Every test with the lowest versions that pyproject.toml admits; of torch, XLM_TORCH or the pinned one."""
    pins = [f"torch=={os.environ['XLM_TORCH']}"] if "XLM_TORCH" in os.environ else PINS
    constraints = Path(session.create_tmp()) / "constraints.txt"
    constraints.write_text("\n".join(pins))
    projects = [argument for plugin in PLUGINS for argument in ("-e", f"plugins/{plugin}")]
    lowest = ("--resolution=lowest-direct", "--constraints", str(constraints))
    # First, because of builds of one version the lowest resolution would take the one for CUDA.
    session.install("uv", *pins)
    session.run("uv", "pip", "install", *lowest, "-e", ".[dev]", *projects)
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    session.install("-r", "requirements-dev.txt")
    packages = [argument for plugin in PLUGINS for argument in ("-p", plugin.replace("-", "_"))]
    path = os.pathsep.join([*(f"plugins/{plugin}/src" for plugin in PLUGINS), "xlm_core/scaffold/minimal/src"])
    session.run("mypy", "-p", "xlm_core", "-p", "xlm_family_minimal", *packages, env={"MYPYPATH": path})
