"""The family as core sees it: hooks, configs, recipes, and a network that learns through them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from xlm_family_mdlm.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig

from xlm_core import composition, families
from xlm_core.config import SamplingConfig
from xlm_core.errors import ConfigError

PAIRS = [([7], [8, 9, 10]), ([8], [12]), ([9, 7], []), ([10], [11, 11, 11, 7, 8])]


@pytest.fixture(scope="module")
def family():
    return families.load("mdlm")


@pytest.fixture(scope="module")
def compose(family):
    def make(data, *overrides):
        path = ["data.path=x.txt"] if data == "text" else []
        cfg = composition.compose(["family=mdlm", f"data={data}", *path, *overrides], ["mdlm"])
        return composition.check(cfg, family)

    return make


def test_what_the_family_says_of_itself(family):
    info = family.info
    assert info.layouts == ("lm", "seq2seq", "infill")
    assert (info.likelihood, info.variable_length, info.time_conditioned, info.packed) == ("bound", True, False, True)


@pytest.mark.parametrize(
    "name, layers, dim, heads, conditioning", [("tiny", 2, 32, 2, 32), ("small", 12, 768, 12, 128), ("cpu", 4, 128, 4, 64)]
)
def test_models_have_the_sizes_that_they_are_named_for(family, compose, tokenizer, name, layers, dim, heads, conditioning):
    cfg = compose("lm1b", f"model=mdlm_{name}").model
    with torch.device("meta"):
        model = family.hook.xlm_model(cfg=cfg, tokenizer=tokenizer)
    block = 2 * dim + 4 * dim * dim + 2 * 4 * dim * dim + 5 * dim
    modulation = (conditioning + 1) * dim * (6 * layers + 2) + dim
    embedding = 256 * conditioning + conditioning * conditioning + 2 * conditioning
    expected = 2 * len(tokenizer) * dim + layers * block + modulation + embedding
    assert sum(p.numel() for p in model.parameters()) == expected
    assert all(block.attention.heads == heads for block in model.blocks)


def test_the_published_recipe(compose):
    cfg = compose("lm1b", "experiment=lm1b_mdlm")
    assert (cfg.trainer.max_steps, cfg.trainer.batch_size, cfg.trainer.clip_norm) == (1_000_000, 512, 1.0)
    assert (cfg.optimizer.lr, cfg.optimizer.weight_decay, cfg.ema.decay) == (3e-4, 0.0, 0.9999)
    assert (cfg.scheduler.kind, cfg.scheduler.warmup_steps) == ("constant", 2500)
    assert (cfg.model.layers, cfg.model.dim, cfg.model.dropout, cfg.model.time_conditioning) == (12, 768, 0.1, False)
    assert (cfg.loss.schedule, cfg.loss.min_noise) == ("log_linear", 1e-3)
    assert cfg.collator.length == cfg.data.length == 128


@pytest.mark.parametrize(
    "data, recipe", [("star_easy", "star_easy_mdlm"), ("star_easy", "star_easy_mdlm_cpu"), ("text", "text_mdlm_cpu")]
)
def test_other_recipes_compose(compose, data, recipe):
    cfg = compose(data, f"experiment={recipe}")
    assert (cfg.collator.length, cfg.collator.prompt_length) == (cfg.data.length, cfg.data.prompt_length)
    assert cfg.trainer.batch_size % cfg.trainer.micro_batch_size == 0
    assert cfg.predictor.token.temperature == (0 if data == "star_easy" else 1)


@pytest.mark.parametrize("name", ["mdlm", "mdlm_ancestral", "mdlm_remask"])
def test_predictors_build(family, compose, tokenizer, name):
    cfg = compose("star_medium", f"predictor={name}").predictor
    predictor = family.hook.xlm_predictor(cfg=cfg, model=None, tokenizer=tokenizer)
    assert predictor.cfg.sampler == {"mdlm": "first_hitting", "mdlm_ancestral": "ancestral", "mdlm_remask": "remask"}[name]


def test_a_misspelt_key_is_refused(compose):
    with pytest.raises(ConfigError, match="eval_sample"):
        compose("star_easy", "+loss.eval_sample=4")


def _build(family, tokenizer, layout, predictor=None):
    torch.manual_seed(0)
    hook = family.hook
    cfg = ModelConfig(dim=32, layers=2, heads=2, dropout=0.0, conditioning_dim=16)
    model = hook.xlm_model(cfg=cfg, tokenizer=tokenizer)
    predictor = predictor or PredictorConfig(token=SamplingConfig(temperature=0.0))
    collators = [
        hook.xlm_collator(cfg=CollatorConfig(length=5), tokenizer=tokenizer, layout=layout, stage=stage)
        for stage in ("train", "predict")
    ]
    loss = hook.xlm_loss(cfg=LossConfig(train_estimator="count"), model=model, tokenizer=tokenizer)
    return model, loss, hook.xlm_predictor(cfg=predictor, model=model, tokenizer=tokenizer), *collators


def test_the_four_parts_learn_pairs_by_heart(family, tokenizer):
    """Everything through the hooks: the bound of the answers goes to 0, their lengths included, and decoding returns them."""
    model, loss, predictor, train, predict = _build(family, tokenizer, "seq2seq")
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=150)
    draws = 0
    for _ in range(150):
        examples = [{"draw": draws + n, "prompt_ids": p, "input_ids": a} for n, (p, a) in enumerate(PAIRS * 4)]
        draws += len(examples)
        optimizer.zero_grad()
        loss(train(examples), seed=0).loss.backward()
        optimizer.step()
        decay.step()
    model.eval()
    assert loss(train(examples), seed=0).loss < 0.05
    batch = predict(examples[:4])
    assert torch.equal(predictor.predict(batch, seed=0).ids, batch["target_ids"])


def test_lengths_of_samples_are_those_of_the_data(family, tokenizer):
    """Texts of one, two or five words, a third each: EOS and the padding behind it are learnt as what they are."""
    model, loss, predictor, train, predict = _build(family, tokenizer, "lm", PredictorConfig())
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=120)
    for step in range(120):
        examples = [{"draw": step * 48 + n, "input_ids": [7 + n % 2] * (1, 2, 5)[n % 3]} for n in range(48)]
        optimizer.zero_grad()
        loss(train(examples), seed=0).loss.backward()
        optimizer.step()
        decay.step()
    model.eval()
    ids = predictor.predict(predict([{"draw": n, "input_ids": []} for n in range(900)]), seed=0).ids
    lengths = (ids != 0).sum(-1).bincount(minlength=7)
    assert lengths[[1, 2, 5]].sum() > 800
    assert ((lengths[[1, 2, 5]] - 300).abs() < 100).all()
    assert (ids.amax(-1) - torch.where(ids == 0, 99, ids).amin(-1) <= 0).double().mean() > 0.9, "one word is repeated"


def test_reading_what_the_family_is_imports_no_torch():
    heavy = "{'torch', 'lightning', 'transformers', 'datasets', 'hydra'}"
    code = f"import sys, xlm_family_mdlm.plugin as plugin; plugin.xlm_info(); print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
