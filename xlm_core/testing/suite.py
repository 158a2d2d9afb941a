"""The checks as tests, for a plugin to inherit:

from xlm_core.testing.suite import FamilySuite

class TestConformance(FamilySuite):
    family = "mine"
"""

from __future__ import annotations

import functools
from typing import ClassVar

import pytest

from xlm_core import families
from xlm_core.testing.building import Built
from xlm_core.testing.checks import CHECKS, Check
from xlm_core.testing.declaration import Declaration
from xlm_core.testing.report import judge, unknown_expectations


class FamilySuite:
    """One test a check. The fields of `Declaration` are optional attributes, added to what the package declares."""

    family: ClassVar[str]
    """Name of the installed family."""

    @classmethod
    @functools.cache
    def built(cls) -> Built:
        family = families.load(cls.family)
        attributes = {name: value for kind in reversed(cls.__mro__) for name, value in vars(kind).items()}
        return Built(family, Declaration.of(family.record).overlaid(attributes))

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_family(self, check: Check) -> None:
        outcome = judge(check, self.built())
        if outcome.status == "failed":
            raise AssertionError(outcome.reason) from outcome.error
        if outcome.status == "expected failure":
            pytest.xfail(outcome.reason)
        if outcome.status == "not applicable":
            pytest.skip(outcome.reason)

    def test_declared_failures_are_of_checks(self) -> None:
        assert unknown_expectations(self.built()) == []
