"""New families of each template, from their wheels: they are sound, they compose, and their parts work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from xlm_core import composition, families, run, searchpath
from xlm_core.testing import batches, checks, decoding, objective, packaging
from xlm_core.testing.building import Built

NAME = "demo_family"
SLOW = {packaging.imports_are_light, decoding.a_text_learnt_is_decoded, objective.training_resumes}
"""`nox -s authors` runs these too."""


def failures(built, selected):
    found = {}
    for check in selected:
        try:
            check(built)
        except AssertionError as error:
            found[check.__name__] = str(error)
    return found


def test_the_minimal_family_keeps_the_contract_and_trains(grow, tmp_path):
    grow(NAME)
    family = families.load(NAME)
    assert (family.record.status, family.record.origin) == ("ok", "xlm-family-demo-family 0.1.0")
    selected = [check for check in checks.CHECKS if check not in SLOW and check is not checks.exact_laws_hold]
    selected.remove(objective.packed_rows_train)  # it does not declare them
    assert failures(Built(family), selected) == {}
    small = ["model.dim=16", "model.layers=1", "trainer.batch_size=8", "trainer.micro_batch_size=8"]
    small += ["trainer.max_steps=3", "scheduler.warmup_steps=1"]
    rows = [f"data.splits.{split}.rows=8" for split in ("train", "validation", "test")]
    recipe = composition.recipe("star_easy", NAME, "cpu")
    overrides = [f"family={NAME}", "data=star_easy", f"experiment={recipe}", *small, *rows]
    config = composition.check(composition.compose(overrides, [NAME]), family)
    result = run.train(config, family, tmp_path / "run")
    assert result.metrics["test/exact_match"].n == 8
    assert result.metrics["test/loss"].value > 0


@pytest.mark.parametrize("template", ["ilm", "mlm", "arlm"])
def test_a_copy_of_a_family_composes_and_works_beside_its_origin(grow, template):
    grow(NAME, template)
    family, origin = families.load(NAME), families.load(template)
    assert family.record.status == "ok"
    assert family.info.layouts == origin.info.layouts
    assert family.info.configs["model"].__module__ == f"xlm_family_{NAME}.config"
    recipes = {}
    for name in (NAME, template):
        own = [source for source in searchpath.sources([name]) if source.provider != "core"]
        recipes[name] = sorted(option.replace(name, "X") for option in searchpath.options(own)["experiment"])
    assert recipes[NAME] == recipes[template]
    for data in ("star_easy", "text"):
        recipe = composition.recipe(data, NAME, "cpu")
        overrides = [f"family={NAME}", f"data={data}", "data.path=a_file", f"experiment={recipe}"]
        composition.check(composition.compose(overrides, [NAME]), family)
    quick = (packaging.configs_are_prefixed, packaging.parts_build, batches.layouts_collate, objective.loss_repeats)
    assert failures(Built(family), (*quick, decoding.traces_replay)) == {}


def test_the_tests_that_it_brings_pass_and_notice(grow, site, tmp_path):
    """Those of the minimal family, on the package as it is, and on one whose loss forgets its rows' counts."""
    folder = grow(NAME)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--deselect", "tests/test_conformance.py"]
    environment = {**os.environ, "PYTHONPATH": str(site.folder)}
    script = f"import sys, pytest; code = pytest.main({command[3:]!r}); print('first', int(code))"
    broken = f"{site.folder}/xlm_family_{NAME}/loss.py"
    script += (
        f"\nfor n in [m for m in sys.modules if m.startswith('xlm_family_') or m.startswith('test')]: del sys.modules[n]"
        f"\ntext = open({broken!r}).read(); open({broken!r}, 'w').write(text.replace('weight.clamp(min=1)', '1'))"
        f"\nprint('second', int(pytest.main({command[3:]!r})))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert "first 0" in done.stdout, done.stdout + done.stderr
    assert "second 1" in done.stdout, done.stdout
    assert "1 failed" in done.stdout
