"""Healthy families, and what makes them sick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from xlm_core import families
from xlm_core.hookspecs import hookimpl
from xlm_core.testing.building import Built


def same(built: Any) -> Any:
    return built


@dataclass
class Fault:
    """A plugin that changes what the hooks of a family build."""

    model: Callable[[Any], Any] = same
    loss: Callable[[Any], Any] = same
    predict: Callable[..., Any] | None = None
    """In place of the predictor's method, which is its first argument."""
    batch: Callable[..., Any] | None = None
    """Of (batch, layout, stage)."""

    @hookimpl(wrapper=True)
    def xlm_model(self):
        return self.model((yield))

    @hookimpl(wrapper=True)
    def xlm_loss(self):
        return self.loss((yield))

    @hookimpl(wrapper=True)
    def xlm_predictor(self):
        predictor = yield
        if self.predict is not None:
            healthy = predictor.predict
            predictor.predict = lambda batch, **options: self.predict(healthy, batch, **options)
        return predictor

    @hookimpl(wrapper=True)
    def xlm_collator(self, layout, stage):
        collate = yield
        return collate if self.batch is None else lambda examples: self.batch(collate(examples), layout, stage)


def one_layout(name: str, layout: str) -> Built:
    family = families.load(name)
    return Built(replace(family, info=replace(family.info, layouts=(layout,))))


@pytest.fixture(scope="session")
def arlm():
    return one_layout("arlm", "seq2seq")


@pytest.fixture(scope="session")
def ilm():
    return one_layout("ilm", "seq2seq")


@pytest.fixture(scope="session")
def mlm():
    return one_layout("mlm", "seq2seq")


@pytest.fixture(scope="session")
def infilling():
    return one_layout("mlm", "infill")


@pytest.fixture
def fails():
    """Say that a check passes a family as it is, and fails it with this fault for this reason."""
    sick: list[Built] = []

    def fails(check, built, reason, *, healthy=True, **fault):
        if healthy:
            check(built)
        built.family.register(Fault(**fault), "fault")
        sick.append(built)
        with pytest.raises(AssertionError, match=reason):
            check(built)

    yield fails
    for built in sick:
        if built.family.manager.has_plugin("fault"):
            built.family.manager.unregister(name="fault")
