from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from xlm_core import inspection
from xlm_core.errors import DataError
from xlm_core.trace import Event, Trace


@pytest.fixture
def train(xlm, fake, site, mine):
    site.install("toy")

    def train(*arguments):
        return xlm("train", "--family", "toy", "--data", "words", "--config-dir", mine, *arguments)

    return train


def test_training(train, fake):
    called = train("model.dim=16", "--no-recipe")
    [(name, facts)] = fake.calls
    assert (called.code, name, facts["family"], facts["resume"]) == (0, "train", "toy", None)
    assert facts["config"].model.dim == 16
    assert called.out.split() == ["metric", "value", "test/loss", "1.5", "±", "0.25"]
    assert called.err == f"next       xlm generate {facts['directory']}\n"


def test_options_and_overrides_mix(train, fake):
    train("trainer.max_steps=3", "--no-recipe", "seed=4")
    config = fake.calls[0][1]["config"]
    assert (config.trainer.max_steps, config.seed) == (3, 4)


def test_the_result_as_json(train):
    found = json.loads(train("--json").out)
    assert found["metrics"] == {"test/loss": {"value": 1.5, "stderr": 0.25, "n": 7}}
    assert found["checkpoint"] == f"{found['directory']}/best.ckpt"


def test_the_recipe_is_applied_and_said(train, fake):
    called = train()
    assert called.err.splitlines()[0] == "recipe     experiment/words_toy (--no-recipe leaves it out)"
    assert fake.calls[-1][1]["config"].trainer.max_steps == 77


@pytest.mark.parametrize(
    ("arguments", "steps", "said"),
    [
        (["--preset", "cpu"], 7, "recipe     experiment/words_toy_cpu (--no-recipe leaves it out)\n"),
        (["--no-recipe"], 10000, ""),
        (["experiment=words_toy_cpu"], 7, ""),
        (["~experiment"], 10000, ""),
        (["trainer.max_steps=5"], 5, "recipe     experiment/words_toy (--no-recipe leaves it out)\n"),
    ],
)
def test_which_recipe(train, arguments, steps, said):
    called = train("--cfg", "job", *arguments)
    assert yaml.safe_load(called.out)["trainer"]["max_steps"] == steps
    assert called.err == said


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--preset", "gpu"], 2, "toy on words has no preset 'gpu'"),
        (["--preset", "cpu", "--no-recipe"], 2, "a preset is a recipe: --preset and --no-recipe exclude each other"),
        (["model.dimm=3"], 2, "there is no config key 'model.dimm'"),
        (["--family", "tow"], 3, "no family named 'tow'"),
        (["--family", "toy,toy"], 2, "several families or data sets are a sweep"),
        (["--config-dir", "nowhere"], 2, "there is no folder nowhere"),
    ],
)
def test_slips_stop_before_a_run_folder_is_made(train, fake, arguments, code, message):
    called = train(*arguments)
    assert called.code == code
    assert f"error: {message}" in called.err
    assert fake.calls == []
    assert not Path("runs").exists()


def test_data_without_a_training_split_are_refused_unless_there_is_nothing_to_train(train, fake, mine):
    words = (mine / "data" / "words.yaml").read_text()
    (mine / "data" / "asked.yaml").write_text(words.replace("words", "asked").replace("train: {}, ", ""))
    called = train("--data", "asked")
    assert called.code == 2
    assert called.err.splitlines()[0] == "error: asked has no split train, only test"
    assert "xlm eval RUN data=asked" in called.err
    assert fake.calls == []
    assert not Path("runs").exists()
    assert train("--data", "asked", "trainer.max_steps=0").code == 0
    assert fake.calls[0][1]["config"].data.name == "asked"


def test_printing_the_config(train, fake):
    called = train("--cfg", "job", "model.dim=16")
    printed = yaml.safe_load(called.out)
    assert printed["model"]["dim"] == 16
    assert printed["trainer"]["max_steps"] == 77
    assert "hydra" not in printed
    assert fake.calls == []
    assert not Path("runs").exists()


def test_a_sweep_over_families_gives_each_its_own_recipe(xlm, fake, site, mine):
    site.install("toy")
    site.install("sound")
    called = xlm("train", "-f", "toy,sound", "-d", "words", "--config-dir", mine, "seed=1,2", "-m")
    assert called.code == 0
    ran = [(facts["family"], facts["config"].seed, facts["config"].model.dim) for _, facts in fake.calls]
    assert ran == [("toy", 1, 64), ("toy", 2, 64), ("sound", 1, 64), ("sound", 2, 64)]
    assert len({facts["directory"] for _, facts in fake.calls}) == 4
    assert "experiment/words_toy " in called.err
    assert "experiment/words_sound " in called.err


def test_a_sweep_goes_on_with_the_next_family(xlm, fake, site, mine):
    site.install("toy")
    site.install("sound")
    fake.failure = DataError("no rows")
    called = xlm("train", "-f", "toy,sound", "-d", "words", "--config-dir", mine, "-m")
    assert [facts["family"] for _, facts in fake.calls] == ["toy", "sound"]
    assert called.code == 2
    assert "error: no rows" in called.err


def test_a_broken_family_stops_a_sweep_before_it_begins(xlm, fake, site, mine):
    site.install("toy")
    site.install("bad", init="raise RuntimeError")
    assert xlm("train", "-f", "toy,bad", "-d", "words", "--config-dir", mine, "-m").code == 3
    assert fake.calls == []


@pytest.fixture
def run(train, fake):
    """The folder of a finished run."""
    train("model.dim=16")
    return fake.calls.pop()[1]["directory"]


def test_resuming_takes_the_config_of_the_run(xlm, fake, run):
    called = xlm("train", "--resume", run, "trainer.max_steps=99")
    [(name, facts)] = fake.calls
    assert (called.code, name, facts["directory"], facts["resume"]) == (0, "train", run, run)
    assert (facts["config"].model.dim, facts["config"].trainer.max_steps) == (16, 99)
    assert called.err.startswith(f"resume     {run}\n")


def test_resuming_another_family(xlm, fake, run, site):
    called = xlm("train", "--resume", run, "--family", "sound")
    assert called.code == 2
    assert f"error: --family is 'sound', but {run} is a run of 'toy'" in called.err
    assert fake.calls == []


def test_resuming_what_is_no_run(xlm, fake, site):
    assert xlm("train", "--resume", "nowhere").code == 2
    assert xlm("train", "--resume", "auto").code == 2


def test_resuming_automatically_starts_when_there_is_nothing(train, fake):
    called = train("--resume", "auto")
    assert called.code == 0
    assert "no run yet" in called.err
    assert fake.calls[0][1]["resume"] is None


def test_printing_the_config_of_a_run(xlm, fake, run):
    printed = yaml.safe_load(xlm("train", "--resume", run, "--cfg", "job", "seed=9").out)
    assert (printed["seed"], printed["model"]["dim"]) == (9, 16)
    assert fake.calls == []


def test_other_ranks_are_silent(train, fake, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    called = train()
    assert (called.code, called.out, called.err) == (0, "", "")


@pytest.mark.parametrize("tokens", [3, 40])
def test_a_sample_is_shown_token_by_token_where_it_fits(train, fake, monkeypatch, tokens):
    events = [Event(i, i, "append", i % 2, 0.5, 0.5) for i in range(tokens)]
    text = " ".join("xy"[i % 2] for i in range(tokens))
    made = SimpleNamespace(prompt="go", text=text, nfe=tokens, trace=Trace([], events))
    monkeypatch.setattr(inspection, "tokenizer", lambda folder: SimpleNamespace(decode=lambda ids: "xy"[ids[0]]))
    monkeypatch.setattr(fake, "result", lambda directory, real=fake.result: _with(real(directory), sample=made))
    shown = train().err.partition("sample     go\n")[2].partition("next")[0].splitlines()
    if tokens == 3:
        assert shown == ["  start: ", "  step 0 append: [x]", "  step 1 append: x [y]", "  step 2 append: x y [x]"]
    else:
        assert shown == [f"  {text}"]


def _with(result, **changes):
    vars(result).update(changes)
    return result
