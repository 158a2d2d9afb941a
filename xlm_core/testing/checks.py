"""All checks of a family. Each is a function of a `Built` family that raises AssertionError with the reason why it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TypeAlias

from xlm_core.testing import batches, decoding, objective, packaging
from xlm_core.testing.building import Built, NotApplicable

Check: TypeAlias = Callable[[Built], None]


def exact_laws_hold(built: Built) -> None:
    """The family's own tests against laws that are known exactly pass, where it names them as its oracle."""
    oracle = built.declared.oracle
    if oracle is None:
        raise NotApplicable("the family names no oracle")
    if callable(oracle):
        oracle(built)
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", oracle]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise AssertionError(f"pytest {oracle}: {''.join(last)}")


CHECKS: tuple[Check, ...] = (
    packaging.imports_are_light,
    packaging.configs_are_prefixed,
    packaging.configs_compose,
    packaging.parts_build,
    batches.layouts_collate,
    batches.batches_repeat,
    batches.batches_stay,
    batches.canvases_agree,
    objective.layouts_train,
    objective.packed_rows_train,
    objective.loss_falls,
    objective.loss_ignores_padding,
    objective.loss_ignores_order,
    objective.loss_repeats,
    objective.weights_survive,
    objective.training_resumes,
    decoding.predictions_are_answers,
    decoding.decoding_repeats,
    decoding.decoding_ignores_the_batch,
    decoding.nfe_counts_evaluations,
    decoding.traces_replay,
    decoding.a_text_learnt_is_decoded,
    exact_laws_hold,
)
