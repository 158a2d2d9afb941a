"""The family as core sees it: hooks, configs, recipes, and a network that learns through them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from xlm_family_ilm.config import CollatorConfig, LossConfig, ModelConfig, PredictorConfig

from xlm_core import composition, families

TEXT = {"gap.top_k": 1, "token.top_p": 0.9, "stop_threshold": 0.9}
STAR = {"gap.top_k": 2, "token.top_k": 1, "stop_threshold": 0.5}


@pytest.fixture(scope="module")
def family():
    return families.load("ilm")


@pytest.fixture(scope="module")
def compose(family):
    def make(data, *overrides):
        path = ["data.path=x.txt"] if data == "text" else []
        cfg = composition.compose(["family=ilm", f"data={data}", *path, *overrides], ["ilm"])
        return composition.check(cfg, family)

    return make


def test_what_the_family_says_of_itself(family):
    info = family.info
    assert info.layouts == ("lm", "seq2seq", "infill")
    assert (info.likelihood, info.variable_length, info.time_conditioned, info.packed) == ("none", True, False, False)


@pytest.mark.parametrize(
    "name, layers, dim, heads, hidden",
    [
        ("tiny", 6, 768, 6, 3072),
        ("tiny2", 8, 576, 8, 3456),
        ("xtiny", 4, 384, 6, 2304),
        ("small", 12, 768, 12, 3072),
        ("small_length", 12, 768, 12, 3072),
        ("cpu", 4, 128, 4, 512),
    ],
)
def test_models_have_the_sizes_that_they_are_named_for(family, compose, tokenizer, name, layers, dim, heads, hidden):
    cfg = compose("lm1b", f"model=ilm_{name}").model
    with torch.device("meta"):
        model = family.hook.xlm_model(cfg=cfg, tokenizer=tokenizer)
    classes = cfg.max_missing + 1 if name.endswith("length") else 2
    norm = 2 * dim
    block = 4 * dim * dim + 2 * dim * hidden + hidden + dim + 2 * norm
    outcome = norm + 4 * dim * dim + 3 * dim + classes * dim
    last = norm if name == "cpu" else 0  # the published networks have no norm before the vocabulary
    assert sum(p.numel() for p in model.parameters()) == 2 * len(tokenizer) * dim + layers * block + outcome + last
    assert all(block.attention.heads == heads for block in model.blocks)


@pytest.mark.parametrize(
    "data, steps, batch, lr, warmup, predictor",
    [
        ("star_easy", 80_000, 64, 1e-4, 500, STAR),
        ("star_medium", 80_000, 64, 1e-4, 500, STAR),
        ("star_hard", 80_000, 64, 1e-4, 500, STAR),
        ("lm1b", 1_000_000, 512, 5e-4, 1000, TEXT),
    ],
)
def test_recipes_have_the_published_values(compose, data, steps, batch, lr, warmup, predictor):
    cfg = compose(data, f"experiment={data}_ilm")
    assert (cfg.trainer.max_steps, cfg.trainer.batch_size) == (steps, batch)
    assert (cfg.optimizer.lr, cfg.scheduler.kind, cfg.scheduler.warmup_steps) == (lr, "constant", warmup)
    assert (cfg.loss.outcome_weight, cfg.loss.stop_class_weight) == (1.0, None)
    for key, value in predictor.items():
        node, _, name = key.rpartition(".")
        assert getattr(getattr(cfg.predictor, node) if node else cfg.predictor, name) == value, key
    assert (cfg.model.layers, cfg.model.dim, cfg.model.final_norm) == (12, 768, False)


@pytest.mark.parametrize("data", ["star_easy", "star_medium", "star_hard"])
def test_an_answer_that_does_not_stop_by_itself_can_be_seen(compose, data):
    """Exact match must not be the work of the limit."""
    cfg = compose(data, f"experiment={data}_ilm")
    assert cfg.predictor.max_new_tokens > cfg.data.length


@pytest.mark.parametrize(
    "data, experiment", [("star_easy", "star_easy_ilm_cpu"), ("text", "text_ilm_cpu"), ("star_hard", None), ("text", None)]
)
def test_configs_compose_into_parts(family, compose, tokenizer, data, experiment):
    """Keys are the dataclasses', and lengths and seed come from the data and the run."""
    cfg = compose(data, *([f"experiment={experiment}"] if experiment else []), "seed=17")
    kinds = (ModelConfig, LossConfig, PredictorConfig, CollatorConfig)
    assert tuple(type(node) for node in (cfg.model, cfg.loss, cfg.predictor, cfg.collator)) == kinds
    assert (cfg.collator.length, cfg.collator.prompt_length, cfg.collator.seed) == (cfg.data.length, cfg.data.prompt_length, 17)
    assert cfg.predictor.max_new_tokens >= cfg.data.length
    collate = family.hook.xlm_collator(cfg=cfg.collator, tokenizer=tokenizer, layout=cfg.data.layout, stage="train")
    batch = collate([{"draw": 0, "input_ids": [7, 8], "prompt_ids": [9]}])
    assert int(batch["target_mask"].sum() + batch["attention_mask"].sum()) == 5


def test_a_network_learns_its_pairs_and_when_to_stop(family, compose, tokenizer):
    """From four prompts to their answers, one of them empty, through the hooks alone."""
    cfg = compose("star_easy", "model=ilm_cpu", "model.dim=32", "model.layers=2", "predictor.max_new_tokens=8")
    torch.manual_seed(0)
    model = family.hook.xlm_model(cfg=cfg.model, tokenizer=tokenizer)
    loss = family.hook.xlm_loss(cfg=cfg.loss, model=model, tokenizer=tokenizer)
    pairs = [([7, 8], [9, 9, 10]), ([8, 12], [11]), ([9], []), ([10, 10, 10], [12, 7])]
    rows = [{"prompt_ids": prompt, "input_ids": answer} for prompt, answer in pairs]

    def batch(stage, draws):
        collate = family.hook.xlm_collator(cfg=cfg.collator, tokenizer=tokenizer, layout="seq2seq", stage=stage)
        return collate([{"draw": draw, **rows[draw % 4]} for draw in draws])

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(180):
        optimizer.zero_grad()
        loss(batch("train", range(step * 16, step * 16 + 16)), seed=0).loss.backward()
        optimizer.step()
    greedy = replace(cfg.predictor.gap, temperature=0.0)
    for joint in (False, True):
        chosen = replace(cfg.predictor, joint=joint, gap=greedy, token=greedy)
        predictor = family.hook.xlm_predictor(cfg=chosen, model=model.eval(), tokenizer=tokenizer)
        found = predictor.predict(batch("predict", range(4)), seed=0)
        assert [[token for token in row if token] for row in found.ids.tolist()] == [answer for _, answer in pairs]
        assert found.nfe.tolist() == [len(answer) + 1 for _, answer in pairs]
