"""The family through its hooks, and its config files against its dataclasses."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import pluggy
import pytest
import torch
from omegaconf import OmegaConf
from xlm_family_arlm import plugin
from xlm_family_arlm.config import LossConfig, ModelConfig, PredictorConfig

from xlm_core import hookspecs
from xlm_core.config import RunConfig, SamplingConfig

CONF = files("xlm_family_arlm") / "conf"
PAIRS = [([7], [8, 9, 10]), ([8], [12]), ([9, 7], []), ([10], [11, 11, 11, 7, 8])]


@pytest.fixture
def hooks():
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    manager.check_pending()
    return manager.hook


def test_the_four_parts_learn_pairs_by_heart(hooks, tokenizer):
    """Everything through the hooks: the likelihood of the answers goes to 1 and decoding returns them."""
    torch.manual_seed(0)
    info = hooks.xlm_info()
    model = hooks.xlm_model(cfg=ModelConfig(dim=32, layers=2, heads=2, dropout=0.0), tokenizer=tokenizer)
    loss = hooks.xlm_loss(cfg=LossConfig(), model=model, tokenizer=tokenizer)
    cfg = PredictorConfig(max_new_tokens=8, token=SamplingConfig(temperature=0.0))
    predictor = hooks.xlm_predictor(cfg=cfg, model=model, tokenizer=tokenizer)
    train, predict = (
        hooks.xlm_collator(cfg=info.configs["collator"](), tokenizer=tokenizer, layout="seq2seq", stage=stage)
        for stage in ("train", "predict")
    )
    examples = [{"draw": n, "prompt_ids": prompt, "input_ids": answer} for n, (prompt, answer) in enumerate(PAIRS)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        out = loss(train(examples), seed=0)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert out.loss < 0.02
    answers = predictor.predict(predict(examples), seed=0).ids
    assert torch.equal(answers, predict(examples)["target_ids"])


def test_it_declares_what_it_can_do(hooks):
    info = hooks.xlm_info()
    assert info.layouts == ("lm", "seq2seq")
    assert info.likelihood == "exact"
    assert info.variable_length
    assert info.packed
    assert not info.time_conditioned


@pytest.mark.parametrize("part", ["model", "loss", "predictor", "collator"])
def test_config_files_fit_their_dataclass(hooks, part):
    """Every key of every file is a field, and what it names outside the node is where it should be."""
    node = hooks.xlm_info().configs[part]
    found = [file for file in (CONF / part).iterdir() if file.name.endswith(".yaml")]
    assert found
    for file in found:
        root = OmegaConf.create({"data": {"length": 9, "prompt_length": 4}, part: OmegaConf.load(str(file))})
        merged = OmegaConf.merge(OmegaConf.structured(node), OmegaConf.to_container(root, resolve=True)[part])
        assert all(merged[key] == value for key, value in root[part].items())
    if part == "collator":
        assert (merged.length, merged.prompt_length) == (9, 4)


def test_recipes_fit_the_run_config(hooks):
    for file in (CONF / "experiment").iterdir():
        recipe = OmegaConf.load(str(file))
        chosen = [entry["override /model"] for entry in recipe.pop("defaults", []) if "override /model" in entry]
        assert all((CONF / "model" / f"{name}.yaml").is_file() for name in chosen)
        predictor = recipe.pop("predictor")
        OmegaConf.merge(OmegaConf.structured(PredictorConfig), predictor)
        run = OmegaConf.merge(OmegaConf.structured(RunConfig), recipe)
        assert run.trainer.batch_size % run.trainer.micro_batch_size == 0


def test_reading_what_the_family_is_imports_no_torch():
    heavy = "{'torch', 'lightning', 'transformers', 'datasets', 'hydra'}"
    code = f"import sys, xlm_family_arlm.plugin as plugin; plugin.xlm_info(); print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
