"""The family through its hooks, and its config files against its dataclasses."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import pluggy
import pytest
import torch
from omegaconf import OmegaConf
from xlm_family_dream import plugin
from xlm_family_dream.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig
from xlm_family_dream.weights import load

from xlm_core import hookspecs
from xlm_core.config import RunConfig

CONF = files("xlm_family_dream") / "conf"
PAIRS = [([7], [8, 9, 10]), ([8], [12]), ([9, 7], []), ([10], [11, 11, 11, 7, 8])]


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
    cfg = ModelConfig(dim=32, layers=2, heads=4, kv_heads=2, hidden=64, rope_theta=100.0)
    model = hooks.xlm_model(cfg=cfg, tokenizer=tokenizer)
    loss = hooks.xlm_loss(cfg=LossConfig(weight="tokens"), model=model, tokenizer=tokenizer)
    train, predict = (
        hooks.xlm_collator(cfg=CollatorConfig(length=5), tokenizer=tokenizer, layout="seq2seq", stage=stage)
        for stage in ("train", "predict")
    )
    examples = [{"draw": n, "prompt_ids": prompt, "input_ids": answer} for n, (prompt, answer) in enumerate(PAIRS)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3)
    for step in range(90):
        out = loss(train([{**example, "draw": 16 * step + n} for n, example in enumerate(examples * 4)]), seed=0)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert out.loss < 0.1
    batch = predict(examples)
    for options in ({}, {"order": "top_prob", "threshold": 0.8}, {"schedule": "linear", "block_size": 2}, {"steps": 1}):
        predictor = hooks.xlm_predictor(cfg=PredictorConfig(**options), model=model, tokenizer=tokenizer)
        assert torch.equal(predictor.predict(batch, seed=0).ids[:, :5], batch["target_ids"])


def test_a_folder_is_loaded_through_the_hook(hooks, qwen, tokenizer):
    folder = qwen()[1]
    cfg = ModelConfig(pretrained=str(folder))
    model = hooks.xlm_model(cfg=cfg, tokenizer=tokenizer)
    assert torch.equal(model.head.weight, load(cfg, tokenizer).head.weight)
    assert (model.cfg.dim, model.cfg.kv_heads, model.embedding.num_embeddings) == (32, 2, 16)


def test_it_is_built_without_memory(hooks, tokenizer):
    """All sizes of the presets go together."""
    for file in (CONF / "model").iterdir():
        with torch.device("meta"):
            model = hooks.xlm_model(cfg=ModelConfig(**OmegaConf.load(str(file))), tokenizer=tokenizer)
        count = sum(p.numel() for name, p in model.named_parameters() if not name.startswith(("embedding", "head")))
        if file.name == "dream_7b.yaml":
            assert count + 2 * 152064 * 3584 == 7_615_616_512, "the parameters of Qwen2.5-7B"


def test_it_declares_what_it_can_do(hooks):
    info = hooks.xlm_info()
    assert info.layouts == ("lm", "seq2seq", "infill")
    assert info.likelihood == "bound"
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
    if part == "collator":
        assert (merged.length, merged.prompt_length, merged.packed, merged.seed) == (9, 4, True, 7)


def test_shipped_decoders_are_greedy_and_without_noise_on_the_order():
    """Unit Gumbel noise on scores in [0, 1] would make the order almost a random one."""
    assert PredictorConfig().order_temperature == PredictorConfig().token.temperature == 0
    for file in (CONF / "predictor").iterdir():
        values = OmegaConf.load(str(file))
        assert values.get("order_temperature", 0) == 0
        assert values.get("token", {}).get("temperature", 0) == 0


def test_recipes_fit_the_run_config():
    for file in (CONF / "experiment").iterdir():
        recipe = OmegaConf.load(str(file))
        for entry in recipe.pop("defaults", []):
            group, name = next(iter(entry.items())) if entry != "_self_" else ("", "")
            if group in ("override /model", "override /predictor"):
                assert (CONF / group.removeprefix("override /") / f"{name}.yaml").is_file()
        for part, node in (("predictor", PredictorConfig), ("loss", LossConfig), ("model", ModelConfig)):
            OmegaConf.merge(OmegaConf.structured(node), recipe.pop(part, {}))
        run = OmegaConf.merge(OmegaConf.structured(RunConfig), recipe)
        assert run.trainer.batch_size % run.trainer.micro_batch_size == 0


def test_reading_what_the_family_is_imports_no_torch():
    heavy = "{'torch', 'lightning', 'transformers', 'datasets', 'hydra', 'safetensors', 'huggingface_hub'}"
    code = f"import sys, xlm_family_dream.plugin as plugin; plugin.xlm_info(); print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
