from __future__ import annotations

import json
import logging
import os
import re
import sys

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from xlm_core import composition, families
from xlm_core.errors import CheckpointError, ConfigError, DataError, FamilyError, Interrupted
from xlm_core.hookspecs import hookimpl

WORDS = """
defaults:
  - override /tokenizer@_global_.tokenizer: numbers_20
name: words
layout: lm
length: 32
source: {kind: function}
splits: {train: {}, test: {rows: 5}}
"""


@pytest.fixture
def toy(site):
    site.install("toy")
    return families.load("toy")


@pytest.fixture
def folder(tmp_path):
    """The user's own configs, with a data set."""
    place = tmp_path / "mine"
    (place / "data").mkdir(parents=True)
    (place / "data" / "words.yaml").write_text(WORDS)
    return place


@pytest.fixture
def checked(toy, folder):
    """Compose and check with the toy family on the user's data set."""

    def checked(*overrides):
        cfg = composition.compose(["family=toy", "data=words", *overrides], ["toy"], folder=folder)
        return composition.check(cfg, toy)

    return checked


def plain(node):
    return OmegaConf.to_container(node)


# Values


def test_yaml_then_dataclass_defaults(checked):
    config = checked()
    assert config.model == type(config.model)(dim=8, rate=0.5)
    assert (config.data.name, config.data.length, config.data.bucketing) == ("words", 32, False)
    assert config.data.splits["test"].rows == 5
    assert config.trainer.max_steps == 10000
    assert config.family.name == "toy"
    assert config.seed == 1


def test_interpolations_reach_over_nodes_and_see_dataclass_defaults(checked, folder):
    assert checked().collator.length == 32
    assert checked("data.length=6").collator.length == 6
    (folder / "data" / "words.yaml").write_text(WORDS.replace("length: 32\n", ""))
    assert checked().collator.length == 128


def test_a_key_that_stands_in_no_yaml_can_be_set(checked):
    config = checked("trainer.threads=3", "data.splits.test.rows=9", "predictor.length=2", "optimizer.betas=[0.5,0.6]")
    assert config.trainer.threads == 3
    assert config.data.splits["test"].rows == 9
    assert config.predictor.length == 2
    assert config.optimizer.betas == [0.5, 0.6]


def test_a_recipe_wins_over_the_family_and_the_command_line_over_the_recipe(checked):
    recipe = "experiment=words_toy"
    assert checked().scheduler.kind == "constant"
    config = checked(recipe)
    assert (config.model.dim, config.trainer.max_steps, config.scheduler.kind) == (64, 77, "cosine")
    assert checked(recipe, "model=toy_small").model.dim == 8
    assert checked("model=toy_small", recipe).model.dim == 8
    config = checked("trainer.max_steps=3", "scheduler=linear", recipe)
    assert (config.trainer.max_steps, config.scheduler.kind) == (3, "linear")


def test_every_option_of_a_core_group_fits_its_dataclass():
    from xlm_core import config, searchpath

    schema = OmegaConf.structured(config.RunConfig)
    groups = searchpath.options(searchpath.sources())
    assert {"trainer", "optimizer", "scheduler", "ema", "checkpoint", "logger", "debug", "tokenizer"} <= set(groups)
    for group in set(groups) - {"data"}:
        for option, source in groups[group].items():
            OmegaConf.merge(schema[group], OmegaConf.load(source.folder / group / f"{option}.yaml"))


def test_the_tokenizer_is_of_the_command_line_or_of_the_recipe_or_of_the_data(checked, folder):
    (folder / "experiment").mkdir()
    recipe = "# @package _global_\ndefaults:\n  - override /tokenizer: char\ntokenizer: {alphabet: ab}\n"
    (folder / "experiment" / "letters.yaml").write_text(recipe)
    assert (checked().tokenizer.kind, checked().tokenizer.size) == ("numbers", 20)
    assert (checked("experiment=letters").tokenizer.kind, checked("experiment=letters").tokenizer.alphabet) == ("char", "ab")
    assert checked("experiment=letters", "tokenizer=byte").tokenizer.kind == "byte"


def test_a_tokenizer_leaves_nothing_of_the_one_that_it_replaces(checked):
    assert checked("tokenizer=char").tokenizer.size is None
    assert checked("tokenizer=char", "tokenizer.alphabet=xyz").tokenizer.alphabet == "xyz"


def test_yaml_of_a_checked_config_reads_back_as_the_same(checked, toy, tmp_path):
    config = checked("experiment=words_toy", "data.arguments.depth=3", "data.metrics=[exact]")
    (tmp_path / "config.yaml").write_text(composition.to_yaml(config))
    assert composition.check(composition.reload(tmp_path / "config.yaml"), toy) == config


def test_without_a_family_its_nodes_are_empty(folder):
    config = composition.check(composition.compose(["data=words"], folder=folder))
    assert config.data.name == "words"
    assert (config.model, config.loss, config.family.name) == (None, None, "")


# Slips


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        (["trainer.max_step=5"], "there is no config key 'trainer.max_step'", "Did you mean 'trainer.max_steps'?"),
        (["model.dimm=5"], "there is no config key 'model.dimm'", "Did you mean 'model.dim'?"),
        (["modle.dim=5"], "there is no config key 'modle'", "Did you mean 'model'?"),
        (["max_steps=5"], "there is no config key or group 'max_steps'", "Did you mean 'trainer.max_steps'?"),
        (["trainer.qqqq=5"], "there is no config key 'trainer.qqqq'", "trainer has max_steps, batch_size,"),
        (["model.qqqq=5"], "there is no config key 'model.qqqq'", "model has dim, rate."),
        (["modle=toy_small"], "there is no config key or group 'modle'", "Did you mean 'model'?"),
        (["~sede"], "there is no config key or group 'sede'", "Did you mean 'seed'?"),
        (
            ["model=toy_smal"],
            "the config group 'model' has no option 'toy_smal'",
            "Did you mean 'toy_small'? It has toy_large, toy_small.",
        ),
        (["data=wrods"], "the config group 'data' has no option 'wrods'", "Did you mean 'words'?"),
        (["experiment=words_to"], "the config group 'experiment' has no option 'words_to'", "Did you mean 'words_toy'?"),
        (["trainer.max_steps=many"], "trainer.max_steps: Value 'many' of type 'str' could not be converted to Integer", ""),
        (["model.rate=high"], "model.rate: Value 'high'", ""),
        (["trainer.max_steps=null"], "trainer.max_steps: ", ""),
        (["data.splits.test.row=1"], "there is no config key 'data.splits.test.row'", "Did you mean 'data.splits.test.rows'?"),
        (["trainer.max_steps=[1"], "cannot read the override", "KEY=VALUE"),
        (["nonsense"], "cannot read the override 'nonsense'", "KEY=VALUE"),
        (["seed=1,2"], "Ambiguous value for argument 'seed=1,2'", "--multirun"),
        (["+seed=2"], "Could not append to config. An item is already at 'seed'", ""),
        (["data.length=${data.lengthh}"], "Interpolation key 'data.lengthh' not found", ""),
        (["data.layout=tree"], "data.layout is 'tree'", "One of lm, seq2seq, infill."),
        (
            ["data.layout=seq2seq"],
            "words has the layout 'seq2seq', which the family toy cannot learn",
            "It can learn lm, infill.",
        ),
        (["data.packing=true"], "the family toy does not learn from packed rows", "data.packing=false"),
        (["trainer.max_steps=???"], "trainer.max_steps has no value", "Give trainer.max_steps=VALUE."),
    ],
)
def test_a_slip_is_one_sentence_and_a_hint(checked, overrides, message, hint):
    with pytest.raises(ConfigError) as caught:
        checked(*overrides)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    assert caught.value.exit_code == 2


def test_no_data_set(toy):
    with pytest.raises(ConfigError, match="no data set is chosen"):
        composition.check(composition.compose(["family=toy"], ["toy"]), toy)


def test_a_dataclass_that_refuses_a_value_is_a_slip(site, source, folder):
    refusal = """    rate: float = 0.5

    def __post_init__(self):
        if self.dim % 2:
            raise ValueError("dim must be even")
"""
    site.install("toy", plugin=source.replace("    rate: float = 0.5\n", refusal))
    cfg = composition.compose(["family=toy", "data=words", "model.dim=7"], ["toy"], folder=folder)
    with pytest.raises(ConfigError, match="dim must be even"):
        composition.check(cfg, families.load("toy"))


def test_a_dataclass_that_no_config_can_fill_is_the_familys_fault(site, source, folder):
    site.install("toy", plugin=source.replace("rate: float = 0.5", "rate: complex = 0.5"))
    cfg = composition.compose(["family=toy", "data=words"], ["toy"], folder=folder)
    with pytest.raises(FamilyError, match=r"xlm-family-toy 1\.2\.3\) has an unreadable dataclass Model: "):
        composition.check(cfg, families.load("toy"))


def test_a_family_that_calls_itself_otherwise(toy, site, folder):
    site.write("xlm_family_toy/conf/family/toy.yaml", "# @package _global_\nfamily: {name: tow}\n")
    cfg = composition.compose(["family=toy", "data=words"], ["toy"], folder=folder)
    with pytest.raises(FamilyError, match="calls itself 'tow'"):
        composition.check(cfg, toy)


# The search path


def test_only_the_families_in_use_are_on_the_path(site, folder):
    site.install("toy")
    site.install("sound")
    assert composition.compose(["family=sound"], ["sound"]).model.dim == 8
    with pytest.raises(ConfigError, match="the config group 'family' has no option 'toy'"):
        composition.compose(["family=toy"], ["sound"])


def test_composing_leaves_nothing_behind(site, folder):
    site.install("toy")
    argv, environment = list(sys.argv), dict(os.environ)
    composition.compose(["family=toy", "data=words"], ["toy"], folder=folder)
    with pytest.raises(ConfigError):
        composition.compose(["nothing=1"], ["toy"], folder=folder)
    assert not GlobalHydra.instance().is_initialized()
    assert composition.FamilyConfigs.sources == ()
    assert (argv, environment) == (sys.argv, dict(os.environ))


def test_composing_imports_no_plugin(site):
    package = site.install("toy", init="raise RuntimeError('imported')")
    assert composition.compose(["family=toy"], ["toy"]).model.dim == 8
    assert package not in sys.modules


def test_a_family_may_not_shadow_core(site, configs_of):
    site.install("toy", files={**configs_of("toy"), "trainer/cpu.yaml": "max_steps: 1\n"})
    with pytest.raises(FamilyError, match=r"xlm-family-toy 1\.2\.3\) ships trainer/cpu\.yaml, which shadows that of core"):
        composition.compose(["family=toy"], ["toy"])


def test_a_family_may_not_shadow_another_in_use(site, configs_of):
    site.install("toy", files={**configs_of("toy"), "model/toy_two_small.yaml": "dim: 1\n"})
    site.install("toy_two", distribution="xlm-family-toy-two")
    assert composition.compose(["family=toy_two"], ["toy_two"]).model.dim == 8
    with pytest.raises(FamilyError, match=r"ships model/toy_two_small\.yaml, which shadows that of xlm-family-toy 1\.2\.3"):
        composition.compose(["family=toy_two"], ["toy", "toy_two"])


def test_the_users_folder_may_not_shadow(site, folder):
    (folder / "trainer").mkdir()
    (folder / "trainer" / "cpu.yaml").write_text("max_steps: 1\n")
    with pytest.raises(ConfigError, match=r"mine ships trainer/cpu\.yaml, which shadows that of core"):
        composition.compose([], folder=folder)
    with pytest.raises(ConfigError, match="there is no folder"):
        composition.compose([], folder=folder / "nowhere")


def test_a_family_without_configs(site):
    site.install("toy", files={"model/toy_small.yaml": "dim: 8\n"})
    with pytest.raises(FamilyError, match=r"xlm-family-toy 1\.2\.3\) ships no conf/family/toy\.yaml"):
        composition.compose(["family=toy"], ["toy"])


def test_broken_yaml_is_located_and_harms_only_its_family(site, configs_of):
    site.install("toy", files={**configs_of("toy"), "model/toy_small.yaml": "dim: 8\nrate: [1\n"})
    site.install("sound")
    assert composition.compose(["family=sound"], ["sound"]).model.dim == 8
    with pytest.raises(ConfigError, match=r"model/toy_small\.yaml, line \d, is not YAML") as caught:
        composition.compose(["family=toy"], ["toy"])
    assert caught.value.hint == "The file belongs to xlm-family-toy 1.2.3."


def test_recipes_and_presets(toy):
    assert composition.recipe("words", "toy") == "words_toy"
    assert composition.recipe("words", "toy", "cpu") == "words_toy_cpu"
    assert composition.recipe("star", "toy") is None
    with pytest.raises(ConfigError) as caught:
        composition.recipe("words", "toy", "gpu")
    assert (caught.value.message, caught.value.hint) == ("toy on words has no preset 'gpu'", "Did you mean 'cpu'?")
    with pytest.raises(ConfigError, match="toy on star has no preset 'cpu'") as caught:
        composition.recipe("star", "toy", "cpu")
    assert caught.value.hint == "It has no presets."


# Slots


def widen(tokenizer, width, depth=1):
    return ("mine", tokenizer, width, depth)


def on_model(model, scale):
    return ("loss", model, scale)


def collate(examples, stage, pad):
    return (examples, stage, pad)


def everything(**names):
    return names


def failing(tokenizer):
    raise ZeroDivisionError("a bug in the user's own code")


@pytest.fixture
def slot(checked, toy):
    """The family with a node replaced by `_target_`."""

    def slot(part, target, *overrides):
        nodes = [f"{part}.{override}" for override in overrides]
        config = checked(f"~{part}", f"+{part}._target_={__name__}.{target}", *nodes)
        composition.slots(config, toy)
        return config

    sys.modules.setdefault(__name__, sys.modules[widen.__module__])
    return slot


def test_a_target_gets_its_keys_and_those_arguments_that_it_names(slot, toy):
    config = slot("model", "widen", "width=3")
    assert toy.hook.xlm_model(cfg=config.model, tokenizer="tok") == ("mine", "tok", 3, 1)


def test_a_target_gets_the_model_itself_and_not_a_copy(slot, toy):
    config = slot("loss", "on_model", "scale=2")
    model = object()
    assert toy.hook.xlm_loss(cfg=config.loss, model=model, tokenizer=None)[1] is model


def test_a_partial_target_becomes_a_collator(slot, toy):
    config = slot("collator", "collate", "pad=0", "_partial_=true")
    built = toy.hook.xlm_collator(cfg=config.collator, tokenizer=None, layout="lm", stage="train")
    assert built([1, 2]) == ([1, 2], "train", 0)


def test_a_target_that_takes_anything_gets_only_its_keys(slot, toy):
    config = slot("predictor", "everything", "a=[1,2]", "b={c: 1}")
    made = toy.hook.xlm_predictor(cfg=config.predictor, model=1, tokenizer=2)
    assert made == {"a": [1, 2], "b": {"c": 1}}
    assert type(made["a"]) is list


def test_other_slots_keep_their_hooks(slot, toy):
    config = slot("model", "widen", "width=3")
    assert toy.hook.xlm_loss(cfg=config.loss, model=1, tokenizer=2)[0] == "loss"


def test_what_wraps_a_hook_wraps_a_target(slot, toy):
    class Wrapper:
        @hookimpl(wrapper=True)
        def xlm_model(self, cfg):
            return ["wrapped", (yield)]

    toy.register(Wrapper(), "wrapper")
    config = slot("model", "widen", "width=3")
    assert toy.hook.xlm_model(cfg=config.model, tokenizer="tok") == ["wrapped", ("mine", "tok", 3, 1)]


def test_a_target_that_cannot_be_imported(slot, toy):
    config = slot("model", "wide", "width=3")
    with pytest.raises(ConfigError, match="cannot be imported"):
        toy.hook.xlm_model(cfg=config.model, tokenizer=None)


def test_a_bug_in_a_target_is_no_slip(slot, toy):
    config = slot("model", "failing")
    with pytest.raises(Exception, match="a bug in the user's own code") as caught:
        toy.hook.xlm_model(cfg=config.model, tokenizer=None)
    assert not isinstance(caught.value, ConfigError)


# Launching


@pytest.fixture
def launched(toy, folder, tmp_path, monkeypatch):
    """Launch a task with the toy family, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["xlm", "train", "typed"])
    for name in ("XLM_RUN_ID", "WORLD_SIZE", "SLURM_NTASKS", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)

    def launched(task, *arguments):
        return composition.launch(["family=toy", "data=words", *arguments], ["toy"], task, folder)

    return launched


def test_a_task_gets_the_config_and_a_new_run_folder(launched, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(composition.time, "strftime", lambda form: "2026-11-21_10-00-00")  # two in the same second

    def task(cfg, directory):
        assert directory.is_dir()
        assert sys.argv == ["xlm", "train", "typed"]
        return cfg.trainer.max_steps, directory

    [(steps, first)] = launched(task, "trainer.max_steps=5")
    [(_, second)] = launched(task)
    assert steps == 5
    assert first != second
    assert re.fullmatch(r"runs/toy/words/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-[0-9a-f]{4}", str(first.relative_to(tmp_path)))
    assert list(first.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert "XLM_RUN_ID" not in os.environ


def test_the_run_id_of_a_parent_is_kept(launched, monkeypatch):
    monkeypatch.setenv("XLM_RUN_ID", "first")
    assert launched(lambda cfg, directory: directory.name) == ["first"]


def test_child_processes_find_the_run_id(launched):
    [(name, seen)] = launched(lambda cfg, directory: (directory.name, os.environ["XLM_RUN_ID"]))
    assert name == seen


def test_ranks_that_somebody_else_started_must_be_told_their_folder(launched, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="do not know its folder") as caught:
        launched(lambda cfg, directory: None)
    assert "XLM_RUN_ID" in caught.value.hint
    assert launched(lambda cfg, directory: directory.name, "hydra.run.dir=here") == ["here"]


def test_the_ranks_of_a_slurm_step_share_a_folder(launched, monkeypatch):
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert launched(lambda cfg, directory: directory.name) == ["slurm-17-0"]


@pytest.mark.parametrize(
    "error", [DataError("no rows", "add some"), ZeroDivisionError("a bug"), Interrupted("stopped"), KeyboardInterrupt()]
)
def test_what_a_task_raises_comes_out_as_it_is(launched, capfd, error):
    def task(cfg, directory):
        raise error

    with pytest.raises(type(error)) as caught:
        launched(task)
    assert caught.value is error
    assert capfd.readouterr() == ("", "")
    assert sys.argv == ["xlm", "train", "typed"]
    assert not GlobalHydra.instance().is_initialized()


def test_a_wrong_override_makes_no_folder(launched, tmp_path):
    with pytest.raises(ConfigError, match="no option 'toy_smal'"):
        launched(lambda cfg, directory: None, "model=toy_smal")
    assert not (tmp_path / "runs").exists()


def test_a_sweep(launched, tmp_path, capfd):
    found = launched(
        lambda cfg, directory: (cfg.seed, cfg.trainer.max_steps, directory), "seed=1,2", "trainer.max_steps=3,4", "--multirun"
    )
    assert [row[:2] for row in found] == [(1, 3), (1, 4), (2, 3), (2, 4)]
    places = [row[2].relative_to(tmp_path) for row in found]
    assert len({place.parent for place in places}) == 1
    assert re.fullmatch(r"sweeps/[^/]+/toy/words/0", str(places[0]))
    assert capfd.readouterr() == ("", "")


def test_a_sweep_goes_on_after_a_failure_and_then_raises_it(launched, caplog):
    seen = []

    def task(cfg, directory):
        seen.append(cfg.seed)
        if cfg.seed == 1:
            raise DataError("no rows")

    with caplog.at_level(logging.ERROR, "xlm"), pytest.raises(DataError, match="no rows"):
        launched(task, "seed=1,2,3", "--multirun")
    assert seen == [1, 2, 3]
    assert "job 0 of the sweep failed: no rows" in caplog.text


@pytest.mark.parametrize("error", [Interrupted("stopped"), KeyboardInterrupt()])
def test_an_interruption_ends_a_sweep(launched, error):
    seen = []

    def task(cfg, directory):
        seen.append(cfg.seed)
        raise error

    with pytest.raises(type(error)):
        launched(task, "seed=1,2", "--multirun")
    assert seen == [1]


def test_a_sweep_in_this_process_starts_no_ranks(launched):
    with pytest.raises(ConfigError, match="cannot start several ranks"):
        launched(lambda cfg, directory: None, "seed=1,2", "trainer.devices=2", "--multirun")
    assert launched(lambda cfg, directory: 1, "trainer.devices=2") == [1]


# Reloading


@pytest.fixture
def saved(checked, tmp_path):
    path = tmp_path / "run" / "config.yaml"
    path.parent.mkdir()
    path.write_text(composition.to_yaml(checked("experiment=words_toy", "model.rate=0.75", "predictor.length=9")))
    return path


def test_a_reloaded_config_takes_overrides(saved, toy):
    config = composition.check(composition.reload(saved, ["trainer.max_steps=99", "trainer.threads=2", "seed=5"]), toy)
    assert (config.model.dim, config.model.rate) == (64, 0.75)
    assert (config.trainer.max_steps, config.trainer.threads, config.seed) == (99, 2, 5)
    assert config.data.name == "words"


def test_an_option_replaces_the_whole_node_of_a_run(saved, toy):
    def reloaded(*overrides):
        return composition.check(composition.reload(saved, overrides), toy)

    assert reloaded().predictor.length == 9
    assert reloaded("predictor=toy_short").predictor.length == 4
    assert reloaded("predictor=toy").predictor.length == 32
    assert reloaded("predictor.length=2", "predictor=toy").predictor.length == 2
    assert reloaded("trainer=cpu").trainer.max_steps == 2000


def test_values_can_be_deleted_from_a_run(saved):
    assert "threads" not in composition.reload(saved, ["~trainer.threads"]).trainer


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("family=toy", "the family of a run cannot be changed"),
        ("experiment=words_toy", "the experiment of a run cannot be changed"),
        ("predictor=toy_shrt", "the config group 'predictor' has no option 'toy_shrt'"),
        ("nonsense", "cannot read the override 'nonsense'"),
    ],
)
def test_slips_on_a_run(saved, override, message):
    with pytest.raises(ConfigError, match=message):
        composition.reload(saved, [override])


def test_a_misspelt_key_on_a_run(saved, toy):
    with pytest.raises(ConfigError, match=r"no config key 'trainer\.max_step'"):
        composition.check(composition.reload(saved, ["trainer.max_step=3"]), toy)


def test_what_is_not_the_config_of_a_run(tmp_path):
    for text in (None, "seed: 1\n", "a: [\n"):
        path = tmp_path / "config.yaml"
        if text is not None:
            path.write_text(text)
        with pytest.raises(CheckpointError, match="is not the config of a run"):
            composition.reload(path)


def test_the_yaml_of_a_run_is_plain(saved):
    assert "${" not in saved.read_text()
    assert json.dumps(yaml.safe_load(saved.read_text()))
