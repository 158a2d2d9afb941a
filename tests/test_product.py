"""Every installed family with every data set: the pair builds, or says why it cannot."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from xlm_core import composition, families, searchpath
from xlm_core.config import TokenizerConfig
from xlm_core.data import tokenizers
from xlm_core.errors import ConfigError
from xlm_core.protocols import Layout

FAMILIES = sorted(name for name, record in families.installed().items() if record.status == "ok")
DATA = sorted(searchpath.options(searchpath.sources([], None))["data"])


@pytest.fixture(scope="module")
def tokenizer():
    """In place of those that are downloaded."""
    return tokenizers.build(TokenizerConfig(kind="byte"), text_path=None)


def composed(family, data, *overrides):
    cfg = composition.compose([f"family={family}", f"data={data}", *overrides], [family])
    return composition.check(cfg, families.load(family))


def built_on_meta(config, family, tokenizer):
    with torch.device("meta"):
        model = family.hook.xlm_model(cfg=config.model, tokenizer=tokenizer)
    loss = family.hook.xlm_loss(cfg=config.loss, model=model, tokenizer=tokenizer)
    predictor = family.hook.xlm_predictor(cfg=config.predictor, model=model, tokenizer=tokenizer)
    stages = ("train", "evaluate", "predict")
    arguments = {"cfg": config.collator, "tokenizer": tokenizer, "layout": config.data.layout}
    return model, loss, predictor, [family.hook.xlm_collator(**arguments, stage=stage) for stage in stages]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("data", DATA)
def test_a_pair_builds_without_memory_at_its_full_size_and_with_its_recipe_or_is_refused(name, data, tokenizer):
    family = families.load(name)
    plain = composition.compose([f"family={name}", f"data={data}"], [name])
    cfg = plain.data
    if cfg.layout not in family.info.layouts or (cfg.get("packing") and not family.info.packed):
        with pytest.raises(ConfigError, match="packed rows" if cfg.layout in family.info.layouts else cfg.layout):
            composition.check(plain, family)
        return
    recipe = composition.recipe(data, name)
    configs = [composition.check(plain, family)]
    configs += [composed(name, data, f"experiment={recipe}")] if recipe else []
    for config in configs:
        model, loss, predictor, collators = built_on_meta(config, family, tokenizer)
        parameters = list(model.parameters())
        assert all(parameter.is_meta for parameter in parameters)
        assert any(len(tokenizer) in parameter.shape for parameter in parameters)
        assert callable(loss)
        assert callable(predictor.predict)
        assert all(callable(collate) for collate in collators)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("layout", get_args(Layout))
def test_a_layout_is_learned_or_refused_with_those_that_are(name, layout):
    family = families.load(name)
    if layout in family.info.layouts:
        assert composed(name, "star_easy", f"data.layout={layout}").data.layout == layout
        return
    with pytest.raises(ConfigError) as caught:
        composed(name, "star_easy", f"data.layout={layout}")
    message = f"{caught.value} {caught.value.hint}"
    assert layout in message
    assert all(other in message for other in family.info.layouts)
    assert name in message


def test_there_is_something_to_test():
    assert FAMILIES
    assert {"star_easy", "lm1b", "text"} <= set(DATA)
