"""What is declared, and what is said of it."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

import xlm_core.testing
from xlm_core.testing.checks import CHECKS, exact_laws_hold
from xlm_core.testing.declaration import Declaration
from xlm_core.testing.packaging import configs_are_prefixed
from xlm_core.testing.report import judge, run, unknown_expectations
from xlm_core.testing.suite import FamilySuite


def sick(built):
    raise AssertionError("it coughs")


def declaring(built, **names):
    return replace(built, declared=Declaration(**names))


def test_one_line_a_check(arlm):
    assert str(judge(configs_are_prefixed, arlm)) == "configs_are_prefixed        ok"
    assert str(judge(sick, arlm)) == "sick                        failed: it coughs"
    assert str(judge(exact_laws_hold, arlm)) == "exact_laws_hold             not applicable: the family names no oracle"
    expected = declaring(arlm, expected_failures={"sick": "a cold"})
    assert str(judge(sick, expected)) == "sick                        expected failure: a cold (it coughs)"


def test_an_expected_failure_that_passes_is_a_failure(arlm):
    outcome = judge(configs_are_prefixed, declaring(arlm, expected_failures={"configs_are_prefixed": "no names"}))
    assert outcome.status == "failed"
    assert outcome.reason == "declared to fail because 'no names', it is ok: take it out of expected_failures"


def test_an_expected_failure_of_nothing(arlm):
    built = declaring(arlm, expected_failures={"loss_fall": "typed"})
    assert unknown_expectations(built) == ["loss_fall"]
    first = next(run(built))
    assert (first.check, first.status, first.reason) == ("expected_failures", "failed", "there is no check 'loss_fall'")


def test_an_oracle(arlm, tmp_path):
    seen = []
    assert judge(exact_laws_hold, declaring(arlm, oracle=seen.append)).status == "ok"
    assert seen[0].name == "arlm"
    assert judge(exact_laws_hold, declaring(arlm, oracle=sick)).reason == "it coughs"
    file = tmp_path / "test_law.py"
    file.write_text("def test_good(): pass\ndef test_bad(): assert 1 == 2\n")
    assert judge(exact_laws_hold, declaring(arlm, oracle=f"{file}::test_good")).status == "ok"
    outcome = judge(exact_laws_hold, declaring(arlm, oracle=str(file)))
    assert outcome.status == "failed"
    assert "1 failed, 1 passed" in outcome.reason


def test_the_suite_says_the_same_to_pytest():
    class Suite(FamilySuite):
        family = "arlm"

    class Declaring(Suite):
        expected_failures: ClassVar = {"sick": "a cold"}

    assert Suite.built() is Suite.built()
    Suite().test_family(configs_are_prefixed)
    Suite().test_declared_failures_are_of_checks()
    with pytest.raises(AssertionError, match="it coughs"):
        Suite().test_family(sick)
    with pytest.raises(pytest.skip.Exception, match="no oracle"):
        Suite().test_family(exact_laws_hold)
    with pytest.raises(pytest.xfail.Exception, match="a cold"):
        Declaring().test_family(sick)
    with pytest.raises(AssertionError):
        Declaring().test_declared_failures_are_of_checks()


def test_the_functions_of_a_suite_are_no_methods():
    class Suite(FamilySuite):
        family = "arlm"

        def oracle(built):
            assert built.name == "mlm", f"this is {built.name}"

    with pytest.raises(AssertionError, match="this is arlm"):
        Suite().test_family(exact_laws_hold)


def test_checks_are_named_and_described():
    names = [check.__name__ for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(check.__doc__ for check in CHECKS)


def test_only_the_suite_needs_pytest():
    for file in Path(xlm_core.testing.__file__).parent.glob("*.py"):
        imports = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Import)]
        named = {alias.name for node in imports for alias in node.names}
        assert ("pytest" in named) == (file.name == "suite.py"), file
