"""examples/lora: an extension that adapts the network of any family."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from xlm_core import compose, composition, families, load_family, run
from xlm_core.config import OptimizerConfig
from xlm_core.errors import CheckpointError, ConfigError
from xlm_core.testing.building import Built
from xlm_core.testing.declaration import Declaration
from xlm_core.training import checkpoints, optimizer

pytest.importorskip("peft")

EXAMPLE = Path(__file__).parents[2] / "examples" / "lora"
FAMILIES = [name for name, record in families.installed().items() if record.origin.startswith("xlm-family-")]
RANK, ALPHA = 2, 6
SMALL = ("model.dim=32", "model.layers=1", "model.heads=2", "model.hidden=64", "trainer=cpu", "trainer.max_steps=3")
SHORT = (
    "scheduler.warmup_steps=1",
    "trainer.batch_size=8",
    "trainer.micro_batch_size=8",
    "data.workers=0",
    "optimizer.lr=0.01",
)
FEW = ("data.splits.train.rows=8", "data.splits.validation.rows=8", "data.splits.test.rows=8", "trainer.eval_batch_size=8")


@pytest.fixture
def lora(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import xlm_lora

    return xlm_lora.Lora


def merged(state):
    """The weights of the network without adapters that computes the same: W + (alpha / rank) B A."""
    own = {name.replace(".base_layer", ""): value.clone() for name, value in state.items() if ".lora_" not in name}
    for name, b in state.items():
        if ".lora_B." in name:
            a = state[name.replace(".lora_B.", ".lora_A.")]
            own[name.partition(".lora_B.")[0] + ".weight"] += ALPHA / RANK * b @ a
    return own


@pytest.mark.parametrize("name", FAMILIES)
def test_it_trains_adapters_of_any_family_alone(name, lora):
    family = load_family(name)
    family.register(lora(rank=RANK, alpha=ALPHA), "lora")
    adapted = Built(family, Declaration.of(family.record))
    layout = adapted.layouts[0]
    rows, prompts = adapted.rows(layout), adapted.prompts(layout)
    parts = adapted.parts(layout)
    before = {key: value.clone() for key, value in parts.model.state_dict().items()}
    adamw = optimizer.adamw(parts.trained, OptimizerConfig(lr=0.01))
    for number in range(3):
        parts.step(adamw, rows, number)
    after = parts.model.state_dict()
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert moved == {key for key in after if ".lora_" in key}
    layers = {key for key, layer in parts.model.named_modules() if isinstance(layer, torch.nn.Linear)}
    inside = {key.partition(".base_layer")[0] for key in layers if key.startswith("blocks.") and ".lora_" not in key}
    assert {key.partition(".lora_")[0] for key in moved} == inside

    again = adapted.parts(layout, seed=5)
    again.model.load_state_dict(after)
    assert float(again.measure("evaluate", rows).loss) == float(parts.measure("evaluate", rows).loss)

    family.manager.unregister(name="lora")
    plain = adapted.parts(layout, seed=1)
    plain.model.load_state_dict(merged(after))
    assert float(plain.measure("evaluate", rows).loss) == pytest.approx(float(parts.measure("evaluate", rows).loss), rel=1e-4)
    assert torch.equal(plain.decode(prompts).ids, parts.decode(prompts).ids)


def test_a_run_starts_from_its_base_and_is_found_again(lora, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLM_CACHE", str(tmp_path / "cache"))
    family = load_family("mdlm")
    given = ["family=mdlm", "data=star_easy", "model=mdlm_cpu", *SMALL, *SHORT, *FEW]
    run.train(composition.check(compose(given, ["mdlm"]), family), family, tmp_path / "base")
    extension = f"extensions.lora={{_target_: xlm_lora.Lora, rank: {RANK}, alpha: {ALPHA}, base: '{tmp_path / 'base'}'}}"
    config = composition.check(compose([*given, extension], ["mdlm"]), family)
    trained = run.train(config, family, tmp_path / "adapted")
    paths = [checkpoints.locate(tmp_path / name / "checkpoints", "best") for name in ("base", "adapted")]
    base, adapted = (torch.load(path, weights_only=True)["state_dict"] for path in paths)
    frozen = {key.replace(".base_layer", ""): value for key, value in adapted.items() if ".lora_" not in key}
    assert frozen.keys() == base.keys()
    assert all(torch.equal(value, base[key]) for key, value in frozen.items())
    assert any(value.abs().sum() > 0 for key, value in adapted.items() if ".lora_B." in key)
    assert run.evaluate(tmp_path / "adapted").metrics["test/loss"] == trained.metrics["test/loss"]
    ids = [[sample.ids for sample in run.generate(tmp_path / "adapted", prompts=None, n=3, seed=1)] for _ in range(2)]
    assert ids[0] == ids[1]
    other = composition.check(compose([*given, extension, "model.dim=64"], ["mdlm"]), family)
    with pytest.raises(CheckpointError, match="is not of this network"):
        run.build(replace(other, seed=2), family)


def test_it_says_what_it_cannot_do(lora):
    with pytest.raises(ConfigError, match=r"extensions\.lora\.rank=0 is no rank"):
        lora(rank=0)
    wrapping = lora().xlm_model()
    next(wrapping)
    with pytest.raises(ConfigError, match="Linear has no linear layers in `blocks`"):
        wrapping.send(torch.nn.Linear(2, 2))
    assert "xlm_lora" in sys.modules
