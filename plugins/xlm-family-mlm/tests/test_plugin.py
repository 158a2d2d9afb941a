"""The family through its hooks, and its config files against its dataclasses."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import pluggy
import pytest
import torch
from omegaconf import OmegaConf
from xlm_family_mlm import plugin
from xlm_family_mlm.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig

from xlm_core import hookspecs
from xlm_core.config import RunConfig, SamplingConfig

CONF = files("xlm_family_mlm") / "conf"
PAIRS = [([7], [8, 9, 10]), ([8], [12]), ([9, 7], []), ([10], [11, 11, 11, 7, 8])]
GREEDY = SamplingConfig(temperature=0.0)


@pytest.fixture
def hooks():
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    manager.check_pending()
    return manager.hook


def test_the_four_parts_learn_pairs_by_heart(hooks, tokenizer):
    """Everything through the hooks: answers of all lengths, EOS included, come back in any order of decoding."""
    torch.manual_seed(0)
    model = hooks.xlm_model(cfg=ModelConfig(dim=32, layers=2, heads=2, dropout=0.0), tokenizer=tokenizer)
    loss = hooks.xlm_loss(cfg=LossConfig(), model=model, tokenizer=tokenizer)
    train, predict = (
        hooks.xlm_collator(cfg=CollatorConfig(length=5), tokenizer=tokenizer, layout="seq2seq", stage=stage)
        for stage in ("train", "predict")
    )
    examples = [{"draw": n, "prompt_ids": prompt, "input_ids": answer} for n, (prompt, answer) in enumerate(PAIRS)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(150):
        out = loss(train([{**example, "draw": 16 * step + n} for n, example in enumerate(examples * 4)]), seed=0)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert out.loss < 0.05
    batch = predict(examples)
    for options in ({}, {"order": "top_prob", "threshold": 0.1}, {"order": "entropy", "steps": 2}):
        predictor = hooks.xlm_predictor(cfg=PredictorConfig(token=GREEDY, **options), model=model, tokenizer=tokenizer)
        assert torch.equal(predictor.predict(batch, seed=0).ids[:, :5], batch["target_ids"])


def test_it_declares_what_it_can_do(hooks):
    info = hooks.xlm_info()
    assert info.layouts == ("lm", "seq2seq", "infill")
    assert info.likelihood == "none"
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
        values = OmegaConf.load(str(file))
        values.pop("defaults", None)
        root = OmegaConf.create({"data": {"length": 9, "prompt_length": 4, "packing": True}, "seed": 7, part: values})
        merged = OmegaConf.merge(OmegaConf.structured(node), OmegaConf.to_container(root, resolve=True)[part])
        assert all(merged[key] == value for key, value in root[part].items() if key != "token")
        if part == "model":
            assert merged.final_norm
    if part == "collator":
        assert (merged.length, merged.prompt_length, merged.packed, merged.seed) == (9, 4, True, 7)
        given = OmegaConf.to_object(OmegaConf.merge(merged, {"lengths": {3: 0.5, 7: 1}}))
        assert given.lengths == {3: 0.5, 7: 1.0}


def test_recipes_fit_the_run_config():
    for file in (CONF / "experiment").iterdir():
        recipe = OmegaConf.load(str(file))
        for entry in recipe.pop("defaults", []):
            group, name = next(iter(entry.items())) if entry != "_self_" else ("", "")
            if group in ("override /model", "override /predictor"):
                assert (CONF / group.removeprefix("override /") / f"{name}.yaml").is_file()
        OmegaConf.merge(OmegaConf.structured(PredictorConfig), recipe.pop("predictor", {}))
        run = OmegaConf.merge(OmegaConf.structured(RunConfig), recipe)
        assert run.trainer.batch_size % run.trainer.micro_batch_size == 0


def test_reading_what_the_family_is_imports_no_torch():
    heavy = "{'torch', 'lightning', 'transformers', 'datasets', 'hydra'}"
    code = f"import sys, xlm_family_mlm.plugin as plugin; plugin.xlm_info(); print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
