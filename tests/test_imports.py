"""Who may import whom, and that looking around is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "xlm_core"

HEAVY = ("torch", "lightning", "transformers", "datasets", "hydra")

LIGHT = {"errors", "protocols", "config", "canvas", "trace"}
"""What every layer may import."""

# Each part of core -> the other parts that it may import, anywhere in its files, beside LIGHT.
MAY_IMPORT: dict[str, set[str]] = {
    "cli": {"run", "composition", "searchpath", "families", "diagnosis", "inspection", "scaffold", "testing"},
    "__main__": {"cli"},
    "run": {"composition", "families", "environment", "data", "training", "evaluation", "decoding", "results"},
    "decoding": {"data", "training"},
    "results": {"decoding", "evaluation"},
    "integrations": {"run", "decoding", "data", "families"},
    "composition": {"schema", "searchpath", "families", "hookspecs"},
    "schema": {"families"},
    "searchpath": {"families"},
    "diagnosis": {"composition", "searchpath", "families"},
    "families": {"hookspecs"},
    "hookspecs": set(),
    "protocols": set(),
    "errors": set(),
    "config": set(),
    "trace": set(),
    "canvas": set(),
    "environment": set(),
    "inspection": {"data", "training"},
    "conf": set(),
    "training": {"data", "evaluation", "sampling"},
    "evaluation": {"sampling", "sandbox", "tasks"},
    "data": {"sampling"},
    "tasks": {"data", "evaluation"},
    "sandbox": set(),
    "nn": {"losses", "sampling", "noise"},
    "noise": {"nn", "losses", "sampling"},
    "losses": {"nn", "noise", "sampling"},
    "sampling": {"nn", "noise", "losses"},
    "testing": {"composition", "searchpath", "families", "data"},
    "scaffold": {"families"},
}
FOR_PLUGINS = {"hookspecs", "nn", "noise", "losses", "sampling", "testing"} | LIGHT
UNBOUND = {"__init__", "hub"}
"""The public surface, and what joins the layers as run does."""


def imported(file: Path) -> set[str]:
    """The modules that a file imports when it runs, wherever in the file; names from packages included."""
    tree = ast.parse(file.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def parts(modules: set[str], package: str = "xlm_core") -> set[str]:
    """The parts of core among modules: `xlm_core.data.store` is `data`."""
    names = {module.split(".")[1] for module in modules if module.startswith(f"{package}.")}
    known = {path.stem for path in CORE.glob("*.py")} | {path.name for path in CORE.iterdir() if path.is_dir()}
    return names & known


def part_of(file: Path) -> str:
    return file.relative_to(CORE).parts[0].removesuffix(".py")


TEMPLATE = CORE / "scaffold" / "minimal"
"""A family that core brings as a template, and never imports: it keeps to what plugins do."""
CORE_FILES = [file for file in sorted(CORE.rglob("*.py")) if TEMPLATE not in file.parents]
FILES = [file for file in CORE_FILES if part_of(file) not in UNBOUND]
PLUGIN_FILES = [*sorted(ROOT.glob("plugins/*/src/**/*.py")), *sorted(TEMPLATE.glob("src/**/*.py"))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CORE)))
def test_core_keeps_to_the_table(file):
    part = part_of(file)
    assert part in MAY_IMPORT, f"say in this table what {part} may import"
    assert parts(imported(file)) - LIGHT - {part} <= MAY_IMPORT[part]


@pytest.mark.parametrize("file", PLUGIN_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_plugins_use_primitives_and_not_each_other(file):
    modules = imported(file)
    # What `xlm run FAMILY` calls is a front end, as core's cli is.
    assert parts(modules) <= FOR_PLUGINS | ({"run"} if file.name == "commands.py" else set())
    own = next(part for part in file.parts if part.startswith("xlm_family_"))
    families = {module.split(".")[0] for module in modules if module.startswith("xlm_family_")}
    assert families <= {own}


@pytest.mark.parametrize("file", CORE_FILES, ids=lambda file: str(file.relative_to(CORE)))
def test_core_imports_no_plugin_and_hydra_in_one_file(file):
    modules = {module.split(".")[0] for module in imported(file)}
    assert not any(module.startswith("xlm_family_") for module in modules)
    assert "hydra" not in modules or file == CORE / "composition.py"


def heavy_after(code: str, heavy: tuple[str, ...] = HEAVY) -> list[str]:
    probe = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "import xlm_core, xlm_core.families, xlm_core.hookspecs, xlm_core.protocols, xlm_core.errors, xlm_core.searchpath; "
        "xlm_core.__version__; xlm_core.hookimpl",
        "from xlm_core.cli.app import main; main(['--help'])",
        "from xlm_core.cli.app import main; main(['train', '--help'])",
        "from xlm_core.cli.app import main; main(['families', 'list'])",
        "from xlm_core.cli.app import main; main(['configs', 'list'])",
        "from xlm_core.cli.app import main; main(['data', 'list'])",
        "from xlm_core import families; [families.load(name) for name in families.installed()]",
    ],
    ids=["import", "help", "train help", "families", "configs", "data", "load every family"],
)
def test_looking_around_imports_nothing_heavy(code):
    assert heavy_after(code) == []


def test_the_list_of_families_waits_for_nothing_that_it_does_not_use():
    assert heavy_after("from xlm_core.cli.app import main; main(['families', 'list'])", ("pydantic", "rich")) == []


def test_composing_a_config_imports_hydra_and_nothing_else_heavy():
    assert heavy_after(
        "from xlm_core.cli.app import main; main(['train', '-f', 'arlm', '-d', 'star_easy', '--cfg', 'job'])"
    ) == ["hydra"]


def test_decoding_waits_for_no_lightning():
    assert heavy_after("import xlm_core.run", ("lightning", "torchmetrics")) == []


def test_the_public_surface_is_what_it_says():
    import xlm_core
    from xlm_core import composition, families, hookspecs

    assert (xlm_core.compose, xlm_core.load_family, xlm_core.hookimpl) == (
        composition.compose,
        families.load,
        hookspecs.hookimpl,
    )
    assert set(xlm_core.__all__) <= set(dir(xlm_core))
    with pytest.raises(AttributeError, match="nothing"):
        _ = xlm_core.nothing
