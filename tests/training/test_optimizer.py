"""Decay groups by role, and schedules against Hugging Face's."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from xlm_core.config import OptimizerConfig, SchedulerConfig
from xlm_core.errors import ConfigError
from xlm_core.training import optimizer


class Named(nn.Module):
    """Names that a split by substring would get wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.bias_free = nn.Linear(3, 4, bias=False)
        self.normal_mixer = nn.Linear(4, 4)
        self.scale = nn.LayerNorm(4)
        self.rms = nn.RMSNorm(4)
        self.embedding = nn.Embedding(5, 3)
        self.tied = nn.Linear(3, 5, bias=False)
        self.tied.weight = self.embedding.weight
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def groups(embeddings: bool) -> tuple[set[int], set[int]]:
    found = optimizer.adamw(model, OptimizerConfig(weight_decay=0.3, decay_embeddings=embeddings)).param_groups
    assert [group["weight_decay"] for group in found] == [0.3, 0.0]
    return tuple({id(p) for p in group["params"]} for group in found)  # type: ignore[return-value]


model = Named()


def test_matrices_decay_and_biases_and_gains_do_not():
    decay, rest = groups(embeddings=True)
    assert decay == {id(p) for p in (model.bias_free.weight, model.normal_mixer.weight, model.embedding.weight)}
    assert rest == {id(p) for p in (model.normal_mixer.bias, *model.scale.parameters(), *model.rms.parameters())}


def test_embeddings_can_be_left_out_unless_they_are_tied_to_a_matrix():
    model.tied.weight = nn.Parameter(torch.zeros(5, 3))
    decay, rest = groups(embeddings=False)
    assert id(model.embedding.weight) in rest
    assert id(model.tied.weight) in decay


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("constant", lambda o: transformers.get_constant_schedule_with_warmup(o, 10)),
        ("linear", lambda o: transformers.get_linear_schedule_with_warmup(o, 10, 100)),
        ("cosine", lambda o: transformers.get_cosine_schedule_with_warmup(o, 10, 100)),
    ],
)
def test_schedules_agree_with_hugging_face(kind, theirs):
    parameter = nn.Parameter(torch.zeros(1))
    reference = theirs(torch.optim.SGD([parameter], lr=1.0)).lr_lambdas[0]
    ours = optimizer.schedule(SchedulerConfig(kind=kind, warmup_steps=10), 100)
    assert [ours(s) for s in range(10, 100)] == pytest.approx([reference(s) for s in range(10, 100)], abs=1e-9)
    # The warm-up begins at 1/10 and not at 0: the first step is not wasted.
    assert [ours(s) for s in range(10)] == pytest.approx([reference(s + 1) for s in range(10)])


@pytest.mark.parametrize("cycles", [1, 2, 3, 7])
def test_cycles_are_hugging_faces_hard_restarts(cycles):
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    reference = transformers.get_cosine_with_hard_restarts_schedule_with_warmup(optimiser, 10, 100, cycles).lr_lambdas[0]
    ours = optimizer.schedule(SchedulerConfig(kind="cosine", warmup_steps=10, cycles=cycles), 100)
    assert [ours(s) for s in range(10, 101)] == pytest.approx([reference(s) for s in range(10, 101)], abs=1e-9)
    floored = optimizer.schedule(SchedulerConfig(kind="cosine", warmup_steps=10, cycles=cycles, final=0.2), 100)
    assert [floored(s) for s in range(10, 101)] == pytest.approx([0.2 + 0.8 * reference(s) for s in range(10, 101)], abs=1e-9)


def test_the_last_step_has_the_final_fraction():
    for kind in ("linear", "cosine"):
        assert optimizer.schedule(SchedulerConfig(kind=kind, warmup_steps=5, final=0.1), 50)(50) == pytest.approx(0.1)


def test_inverse_sqrt_is_continuous_and_halves_after_four_times_the_steps():
    factor = optimizer.schedule(SchedulerConfig(kind="inverse_sqrt", warmup_steps=100), 10_000)
    assert factor(99) == pytest.approx(factor(100), rel=0.01)
    assert factor(3999) == pytest.approx(factor(999) / 2)


def test_wrong_kinds_and_warmups_are_config_errors():
    with pytest.raises(ConfigError, match="cosin'"):
        optimizer.schedule(SchedulerConfig(kind="cosin"), 10)
    with pytest.raises(ConfigError, match="cycles=0"):
        optimizer.schedule(SchedulerConfig(kind="cosine", warmup_steps=1, cycles=0), 10)
    with pytest.raises(ConfigError, match="warmup"):
        optimizer.schedule(SchedulerConfig(kind="cosine", warmup_steps=10), 10)
