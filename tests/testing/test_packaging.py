"""What is installed wrongly is found."""

from __future__ import annotations

import pytest
import torch

from xlm_core import families
from xlm_core.testing import packaging
from xlm_core.testing.building import Built
from xlm_core.testing.declaration import Declaration
from xlm_core.testing.report import run


def toy(site, files=None, **changes):
    package = site.install("toy", **changes)
    for path, text in (files or {}).items():
        site.write(f"{package}/{path}", text)
    return Built(families.load("toy"))


def test_a_package_that_imports_what_is_heavy(site):
    packaging.imports_are_light(toy(site))
    site.install("toy", init="import hydra")
    with pytest.raises(AssertionError, match="imports hydra: import them inside the hooks"):
        packaging.imports_are_light(Built(families.load("toy")))


@pytest.mark.parametrize("file", ["model/tiny", "predictor/toys", "experiment/words_other"])
def test_a_file_without_the_name_of_the_family(site, file):
    built = toy(site)
    packaging.configs_are_prefixed(built)
    site.write(f"xlm_family_toy/conf/{file}.yaml", "{}\n")
    with pytest.raises(AssertionError, match=f"{file}.yaml, which does not bear the family's name"):
        packaging.configs_are_prefixed(built)


@pytest.mark.parametrize(
    "file, text, reason",
    [
        ("predictor/toy_short", "lenght: 3", "predictor=toy_short.*'predictor.lenght'"),
        ("model/toy_large", "dim: [", "toy_large.yaml, line .* is not YAML"),
        ("experiment/words_toy_cpu", "# @package _global_\ntrainer:\n  max_step: 7", "words_toy_cpu.*'trainer.max_step'"),
    ],
)
def test_a_file_that_does_not_compose(site, file, text, reason):
    built = toy(site, {f"conf/{file}.yaml": f"{text}\n"})
    with pytest.raises(AssertionError, match=reason):
        packaging.configs_compose(built)


def test_files_that_compose(site):
    packaging.configs_compose(toy(site))


def test_a_loss_that_swallows_the_model(arlm, fails):
    def swallow(loss):
        class Whole(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = loss.model

        return Whole()

    fails(packaging.parts_build, arlm, "the loss has the model among its submodules", loss=swallow)


def test_what_does_not_build_is_said_once(site):
    built = toy(site)
    outcomes = {outcome.check: outcome for outcome in run(built)}
    assert outcomes["configs_are_prefixed"].status == outcomes["configs_compose"].status == "ok"
    assert outcomes["parts_build"].status == "failed"
    assert outcomes["parts_build"].reason.startswith("AttributeError: 'list'")
    later = list(outcomes.values())[4:]
    assert {(outcome.status, outcome.reason) for outcome in later} == {
        ("not applicable", "the parts of the family do not build")
    }


def test_what_a_package_declares(site):
    text = "overrides = ('model.dim=3',)\nexpected_failures = {'loss_falls': 'a toy'}\n"
    built = toy(site, {"conformance.py": text})
    declared = Declaration.of(built.family.record)
    assert (declared.overrides, declared.expected_failures, declared.oracle) == (
        ("model.dim=3",),
        {"loss_falls": "a toy"},
        None,
    )
    more = declared.overlaid({"expected_failures": {"loss_repeats": "two"}, "overrides": (), "family": "toy"})
    assert (more.overrides, more.expected_failures) == ((), {"loss_falls": "a toy", "loss_repeats": "two"})
    assert Built(built.family, declared).config("lm").model.dim == 3
    assert Declaration.of(families.find("arlm")) == Declaration()
