"""Checks of what is installed: imports, config files, and that the hooks build."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest

from xlm_core import composition, searchpath
from xlm_core.errors import FamilyError, XlmError
from xlm_core.testing.building import DATA, Built

HEAVY = ("torch", "lightning", "transformers", "datasets", "hydra")
PROBE = """
import sys
from xlm_core import families
families.load(sys.argv[1])
print([name for name in {heavy} if name in sys.modules])
"""


def imports_are_light(built: Built) -> None:
    """Importing the package and asking what the family is imports no torch."""
    command = [sys.executable, "-c", PROBE.format(heavy=HEAVY), built.name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise AssertionError(f"a fresh Python cannot load it: {done.stderr.strip().splitlines()[-1]}")
    found = ast.literal_eval(done.stdout.splitlines()[-1])
    if found:
        raise AssertionError(f"loading the family imports {', '.join(found)}: import them inside the hooks")


def configs_are_prefixed(built: Built) -> None:
    """Every YAML file is called NAME.yaml or NAME_*.yaml, and recipes DATA_NAME.yaml or DATA_NAME_*.yaml."""
    try:
        searchpath.sources([built.name])
    except FamilyError as error:
        raise AssertionError(error.message) from error


def configs_compose(built: Built) -> None:
    """Every YAML file composes into a config that the family's dataclasses accept."""
    groups: dict[str, list[str]] = {}
    for group, option in _own(built):
        groups.setdefault(group, []).append(option)
    recipes, others = groups.pop("experiment", []), groups.pop("data", [])
    groups.pop("family", None)
    _compose(built, DATA)
    # Composing takes long, so that options of different groups share it.
    for options in zip_longest(*groups.values()):
        chosen = [f"{group}={option}" for group, option in zip(groups, options, strict=True) if option]
        _compose(built, DATA, *chosen)
    for data in others:
        _compose(built, data)
    for option in recipes:
        _compose(built, option.partition(f"_{built.name}")[0], f"experiment={option}")


def _compose(built: Built, data: str, *overrides: str) -> None:
    """Raises AssertionError. Data that are not installed, as a recipe's can be the user's own, are replaced."""
    known = data in searchpath.options(searchpath.sources([built.name]))["data"]
    chosen = f"data={data if known else DATA}"
    layout = [] if known and data != DATA else [f"data.layout={built.layouts[0]}"]
    given = [f"family={built.name}", chosen, "data.path=a_file", *layout, *overrides]
    try:
        composition.check(composition.compose(given, [built.name]), built.family)
    except XlmError as error:
        raise AssertionError(f"{' '.join(overrides) or chosen}: {error.message}") from error


def parts_build(built: Built) -> None:
    """The hooks build model, loss, predictor and collators from the small config, for every layout."""
    for layout in built.layouts:
        parts = built.parts(layout, shaken=False)
        own = {id(parameter) for parameter in parts.model.parameters()}
        if not own:
            raise AssertionError("the model has no parameters")
        if "loss" in parts.trained and own & {id(parameter) for parameter in parts.trained["loss"].parameters()}:
            raise AssertionError("the loss has the model among its submodules, so that checkpoints would hold it twice")


def _own(built: Built) -> Iterator[tuple[str, str]]:
    """Group and option of each of the family's files."""
    for source in searchpath.sources([built.name]):
        if source.provider == built.family.record.origin:
            for name in source.files():
                group, _, option = name.rpartition("/")
                yield group, option
