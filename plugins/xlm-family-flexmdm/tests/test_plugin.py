"""The family as core sees it: hooks, configs, recipes, and a network that learns through them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from xlm_family_flexmdm.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig, ScheduleConfig
from xlm_family_flexmdm.metrics import refused

from xlm_core import composition, families
from xlm_core.config import SamplingConfig
from xlm_core.data.tokenizers import build
from xlm_core.errors import ConfigError
from xlm_core.evaluation import metrics

PAIRS = [([7], [8, 9, 10]), ([8], [12]), ([9, 7], []), ([10], [11, 11, 11, 7, 8])]
GREEDY = SamplingConfig(temperature=0.0)


@pytest.fixture(scope="module")
def family():
    return families.load("flexmdm")


@pytest.fixture(scope="module")
def compose(family):
    def make(data, *overrides):
        path = ["data.path=x.txt"] if data == "text" else []
        cfg = composition.compose(["family=flexmdm", f"data={data}", *path, *overrides], ["flexmdm"])
        return composition.check(cfg, family)

    return make


def test_what_the_family_says_of_itself(family):
    info = family.info
    assert info.layouts == ("lm", "seq2seq", "infill")
    assert (info.likelihood, info.variable_length, info.time_conditioned, info.packed) == ("bound", True, True, False)


@pytest.mark.parametrize(
    "name, layers, dim, heads, conditioning, outputs",
    [
        ("tiny", 2, 32, 2, 32, 2),
        ("cpu", 4, 128, 4, 64, 2),
        ("small", 12, 768, 12, 128, 2),
        ("small_distribution", 12, 768, 12, 128, 129),
    ],
)
def test_models_have_the_sizes_that_they_are_named_for(
    family, compose, tokenizer, name, layers, dim, heads, conditioning, outputs
):
    """F3: a law has a name for every number of tokens that a text of `data.length` can lack."""
    cfg = compose("lm1b", f"model=flexmdm_{name}").model
    with torch.device("meta"):
        model = family.hook.xlm_model(cfg=cfg, tokenizer=tokenizer)
    block = 2 * dim + 4 * dim * dim + 2 * 4 * dim * dim + 5 * dim
    modulation = (conditioning + 1) * dim * (6 * layers + 2) + dim
    embedding = 256 * conditioning + conditioning * conditioning + 2 * conditioning
    head = (conditioning + 1) * 2 * dim + dim + dim * dim + dim + (dim + 1) * outputs
    expected = 2 * len(tokenizer) * dim + layers * block + modulation + embedding + head
    assert sum(p.numel() for p in model.parameters()) == expected
    assert all(block.attention.heads == heads for block in model.blocks)


@pytest.mark.parametrize("data, room, order", [("easy", 12, "prob_diff"), ("medium", 14, "prob_diff"), ("hard", 26, "random")])
def test_the_published_star_recipes(compose, data, room, order):
    """F17: and the vocabulary has the nodes of the graphs, no more."""
    cfg = compose(f"star_{data}", f"experiment=star_{data}_flexmdm")
    assert (cfg.trainer.max_steps, cfg.trainer.batch_size, cfg.optimizer.lr) == (80_000, 64, 1e-4)
    assert (cfg.scheduler.kind, cfg.model.layers, cfg.model.dim) == ("constant", 12, 768)
    assert (cfg.model.insertion.name, cfg.model.unmasking.name) == ("linear", "linear")
    assert (cfg.predictor.steps, cfg.predictor.token.top_k, cfg.predictor.order) == (500, 1, order)
    assert cfg.predictor.max_new_tokens == room > cfg.data.length
    assert len(build(cfg.tokenizer)) == {"easy": 27, "medium": 27, "hard": 63}[data]


def test_the_published_recipe_of_lm1b(compose):
    """F11: it composes."""
    cfg = compose("lm1b", "experiment=lm1b_flexmdm")
    assert (cfg.trainer.max_steps, cfg.trainer.batch_size, cfg.optimizer.lr) == (1_000_000, 512, 1e-4)
    assert (cfg.model.layers, cfg.model.dim, cfg.model.dropout) == (12, 768, 0.1)
    assert cfg.predictor.token.top_p == 0.9
    assert cfg.collator.length == cfg.predictor.max_new_tokens == cfg.model.max_gap == cfg.data.length == 128


@pytest.mark.parametrize("data, recipe", [("star_easy", "star_easy_flexmdm_cpu"), ("text", "text_flexmdm_cpu")])
def test_other_recipes_compose(compose, data, recipe):
    cfg = compose(data, f"experiment={recipe}")
    assert (cfg.collator.length, cfg.collator.prompt_length) == (cfg.data.length, cfg.data.prompt_length)
    assert cfg.trainer.batch_size % cfg.trainer.micro_batch_size == 0
    assert cfg.model.dim == (64 if data == "star_easy" else 128)
    assert cfg.predictor.token.temperature == (0 if data == "star_easy" else 1)


def test_packed_rows_are_no_texts_of_a_length(compose):
    with pytest.raises(ConfigError, match="pack"):
        compose("text", "data.packing=true")


def test_a_misspelt_key_is_refused(compose):
    with pytest.raises(ConfigError, match="eval_sample"):
        compose("star_easy", "+loss.eval_sample=4")


def test_data_can_name_the_count_of_what_was_refused():
    assert metrics.resolve(["xlm_family_flexmdm.metrics.refused"])[-1] is refused


def _parts(family, tokenizer, *predictors):
    torch.manual_seed(0)
    hook = family.hook
    sizes = {"dim": 32, "layers": 2, "heads": 2, "dropout": 0.0, "conditioning_dim": 16, "max_gap": 6, "learned_positions": 16}
    # Masks first, tokens later: so few steps do not teach what a token is before its place is known.
    insertion, unmasking = ScheduleConfig("geometric", first=5.0, last=1e-6), ScheduleConfig("polynomial", power=3.0)
    cfg = ModelConfig(**sizes, insertion=insertion, unmasking=unmasking)
    model = hook.xlm_model(cfg=cfg, tokenizer=tokenizer)
    loss = hook.xlm_loss(cfg=LossConfig(), model=model, tokenizer=tokenizer)
    collators = [
        hook.xlm_collator(cfg=CollatorConfig(length=5), tokenizer=tokenizer, layout="seq2seq", stage=stage)
        for stage in ("train", "predict")
    ]
    return model, loss, [hook.xlm_predictor(cfg=cfg, model=model, tokenizer=tokenizer) for cfg in predictors], *collators


def _batch(collate, copies, first=0):
    rows = [{"prompt_ids": prompt, "input_ids": answer} for prompt, answer in PAIRS * copies]
    return collate([{"draw": first + n, **row} for n, row in enumerate(rows)])


def test_the_four_parts_learn_pairs_by_heart(family, tokenizer):
    """Everything through the hooks: the bound of the answers falls, their lengths included, and every order returns them."""
    decoders = [
        PredictorConfig(steps=24, max_new_tokens=8, token=GREEDY, gap="nearest", order=order)
        for order in ("prob_diff", "random", "position")
    ]
    model, loss, predictors, train, predict = _parts(family, tokenizer, *decoders)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=220)
    for step in range(220):
        optimizer.zero_grad()
        loss(_batch(train, 24, 96 * step), seed=0).loss.backward()
        optimizer.step()
        decay.step()
    model.eval()
    with torch.no_grad():
        nll = loss(_batch(train, 50), seed=0).terms["nll"]
    assert float(nll.total.sum() / nll.count.sum()) < 0.3
    batch = _batch(predict, 1)
    for predictor in predictors:
        assert torch.equal(predictor.predict(batch, seed=0).ids, batch["target_ids"])


def test_reading_what_the_family_is_imports_no_torch():
    heavy = "{'torch', 'lightning', 'transformers', 'datasets', 'hydra'}"
    code = f"import sys, xlm_family_flexmdm.plugin as plugin; plugin.xlm_info(); print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
