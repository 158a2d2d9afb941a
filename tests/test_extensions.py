"""What goes beyond a family: extensions around its hooks, and data sets that a plugin ships for all families."""

from __future__ import annotations

import sys

import pytest

from xlm_core import composition, searchpath
from xlm_core.composition import check, compose
from xlm_core.errors import ConfigError, FamilyError
from xlm_core.families import load

WRAPPER = """
from xlm_core.hookspecs import hookimpl


class Wrapper:
    def __init__(self, word="wrapped", times=1):
        self.words = [word] * times

    @hookimpl(wrapper=True)
    def xlm_model(self, cfg):
        return [*self.words, (yield), getattr(cfg, "dim", None)]


def network(dim, rate):
    return ["own", dim]


class Misspelt:
    @hookimpl(wrapper=True)
    def xlm_modle(self):
        return (yield)


class Greedy:
    @hookimpl(wrapper=True)
    def xlm_model(self, device):
        return (yield)
"""
WORDS = """
defaults:
  - override /tokenizer@_global_.tokenizer: words
  - _self_
name: {name}
layout: lm
source: {{kind: function, function: xlm_family_toy.words.rows, arguments: {{n: 5}}}}
preprocess: xlm_family_toy.words.encode
splits: {{train: {{}}, test: {{}}}}
"""


@pytest.fixture
def family(site):
    site.install("toy")
    site.write("wrapping.py", WRAPPER)
    yield load("toy")
    sys.modules.pop("wrapping", None)


def configured(family, *overrides):
    name = family.record.name
    data = ["data.name=none", "data.layout=lm", "data.source.kind=function", "tokenizer.kind=byte", "trainer.max_steps=1"]
    return check(compose([f"family={name}", *data, *overrides], [name]), family)


def built(family, config):
    composition.slots(config, family)
    return family.hook.xlm_model(cfg=config.model, tokenizer="tokenizer")


def test_an_extension_is_around_whatever_builds_the_part(family):
    one = configured(family, "extensions.one={_target_: wrapping.Wrapper, times: 2}")
    model = built(family, one)
    assert model == ["wrapped", "wrapped", ["model", one.model, "tokenizer"], 8]
    assert family.hook.xlm_collator(cfg=1, tokenizer=2, layout="lm", stage="train") == ["collator", 1, 2, "lm", "train"]
    slot = configured(family, "extensions.one={_target_: wrapping.Wrapper}", "model._target_=wrapping.network", "model.rate=1")
    assert built(family, slot)[:2] == ["wrapped", ["own", 8]]


def test_extensions_are_those_of_the_config_and_no_other(family):
    """A family that is loaded once serves the runs of a sweep, one after the other."""
    two = configured(
        family, "extensions.a={_target_: wrapping.Wrapper, word: a}", "extensions.b={_target_: wrapping.Wrapper, word: b}"
    )
    assert built(family, two)[:1] == ["b"]
    assert built(family, two)[1][:1] == ["a"]
    assert built(family, configured(family, "extensions.a={_target_: wrapping.Wrapper, word: c}"))[0] == "c"
    assert built(family, configured(family))[0] == "model"


def test_an_extension_is_found_again_by_whoever_reopens_the_run(family, tmp_path):
    config = configured(family, "extensions.one={_target_: wrapping.Wrapper, word: again}")
    (tmp_path / "config.yaml").write_text(composition.to_yaml(config))
    again = check(composition.reload(tmp_path / "config.yaml", ["seed=3"]), family)
    assert again.extensions == {"one": {"_target_": "wrapping.Wrapper", "word": "again"}}
    assert built(family, again)[0] == "again"


@pytest.mark.parametrize(
    ("node", "what"),
    [
        ("{word: a}", "extensions.one names no _target_"),
        ("{_target_: wrapping.Nothing}", "_target_ 'wrapping.Nothing' cannot be imported"),
        ("{_target_: wrapping.Misspelt}", "extensions.one cannot wrap a family: .*xlm_modle"),
        ("{_target_: wrapping.Greedy}", "extensions.one cannot wrap a family: .*device"),
    ],
)
def test_what_is_no_extension_is_said_to_be_none(family, node, what):
    config = configured(family, f"extensions.one={node}")
    with pytest.raises(ConfigError, match=what):
        composition.slots(config, family)
    assert built(family, configured(family))[0] == "model"


ROWS = """
def rows(split, n):
    return {"text": [f"{split}{i}" for i in range(n)]}


def encode(rows, tokenizer):
    return {"input_ids": [[tokenizer.convert_tokens_to_ids(word)] for word in rows["text"]]}
"""


@pytest.fixture
def shipped(site, configs_of):
    """Installs the family `toy` with a data set, which any family can use."""
    package = site.install("toy", files={**configs_of("toy"), "data/toy_words.yaml": WORDS.format(name="toy_words")})
    site.write(f"{package}/words.py", ROWS)
    return site


def test_a_data_set_of_a_plugin_is_found_by_its_name(shipped):
    shipped.install("other")
    assert searchpath.shippers(["toy_words"]) == ["toy"]
    assert searchpath.shippers(["star_easy", "toy_nothing", "toy"]) == []
    other = load("other")
    given = ["family=other", "data=toy_words", "trainer.max_steps=1", "tokenizer.words=[a,b]"]
    config = check(compose(given, ["other"]), other)
    assert (config.data.name, config.data.source.function) == ("toy_words", "xlm_family_toy.words.rows")
    assert config.tokenizer.kind == "words"
    assert check(compose(["data=toy_words", "tokenizer.words=[a,b]"])).data.name == "toy_words"


def test_a_recipe_comes_with_the_data_too(shipped):
    """`toy_words` bears the name of the family that ships it, so its recipe for any family does."""
    recipe = "# @package _global_\ntrainer:\n  max_steps: 5\n"
    shipped.write("xlm_family_toy/conf/experiment/toy_words_other.yaml", recipe)
    shipped.install("other")
    assert searchpath.recipe("toy_words", "other") == "toy_words_other"
    given = ["family=other", "data=toy_words", "experiment=toy_words_other"]
    assert compose(given, ["other"]).trainer.max_steps == 5


def test_its_rows_are_those_of_its_function(shipped):
    from xlm_core import inspection

    config = check(compose(["data=toy_words", "tokenizer.words=[train0,train1]"]))
    tokenizer, row = inspection.example(config)
    assert tokenizer.decode(row["input_ids"]) == "train0"


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("data/words.yaml", "ships data/words.yaml, which does not bear the family's name"),
        ("model/toyish.yaml", "ships model/toyish.yaml, which does not bear the family's name"),
        ("data/toy/words.yaml", "ships data/toy/words.yaml, which does not bear the family's name"),
        ("experiment/star_easy.yaml", "ships experiment/star_easy.yaml, which does not bear the family's name"),
        ("experiment/star_easy_toys.yaml", "which does not bear the family's name"),
        ("data/star_easy.yaml", "ships data/star_easy.yaml, which shadows that of core"),
    ],
)
def test_files_bear_the_name_of_the_family(site, configs_of, file, why):
    site.install("toy", files={**configs_of("toy"), file: "{}\n"})
    with pytest.raises(FamilyError, match=why):
        searchpath.sources(["toy"])
    site.install("sound")
    providers = {source.provider for source in searchpath.everything()}
    assert "xlm-family-sound 1.2.3" in providers
    assert "xlm-family-toy 1.2.3" not in providers


@pytest.mark.parametrize(
    "file", ["data/toy.yaml", "data/toy_words.yaml", "experiment/star_toy.yaml", "experiment/a_toy_cpu.yaml"]
)
def test_files_that_bear_it_are_taken(site, configs_of, file):
    site.install("toy", files={**configs_of("toy"), file: "{}\n"})
    assert file.removesuffix(".yaml") in searchpath.sources(["toy"])[1].files()
