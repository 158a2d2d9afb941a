"""`xlm run`: the commands of a family."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

COMMANDS = """
import typer

from xlm_core.errors import DataError

commands = typer.Typer(help="Toys.")


@commands.command("twice")
def twice(number: int, shout: bool = typer.Option(False, "--shout", "-h/-H")) -> None:
    print(2 * number, "!" if shout else "")
    raise typer.Exit(7)


@commands.command("fail")
def fail() -> None:
    raise DataError("there are no toys", "Buy one.")
"""
HOOK = """

@hookimpl
def xlm_commands():
    from {package}.commands import commands

    return commands
"""


@pytest.fixture
def toy(site, source):
    """Installs a family with commands."""

    def toy(name="toy", commands=COMMANDS):
        package = site.install(name, plugin=source + HOOK.format(package=f"xlm_family_{name}"))
        site.write(f"{package}/commands.py", commands)

    return toy


def test_a_command_gets_what_stands_behind_its_name(xlm, toy):
    toy()
    called = xlm("run", "toy", "twice", "21", "--shout")
    assert (called.code, called.out, called.err) == (7, "42 !\n", "")
    assert xlm("run", "toy", "twice", "--shout", "4").out == "8 !\n"


def test_a_command_that_returns_ends_with_zero(xlm, toy):
    toy(commands=COMMANDS.replace("Exit(7)", "Exit(0)"))
    assert xlm("run", "toy", "twice", "1").code == 0


def test_a_family_lists_its_commands(xlm, toy):
    toy()
    called = xlm("run", "toy")
    assert "Usage: xlm run toy" in called.out
    assert "twice" in called.out
    assert "fail" in called.out
    assert "NUMBER" in xlm("run", "toy", "twice", "--help").out.upper()


def test_only_one_command_still_goes_by_its_name(xlm, toy):
    alone = "import typer\ncommands = typer.Typer()\n\n@commands.command('only')\ndef only() -> None:\n    print('done')\n"
    toy(commands=alone)
    assert xlm("run", "toy", "only").out == "done\n"


def test_slips_are_explained(xlm, toy, site):
    toy()
    site.install("plain")
    called = xlm("run", "toy", "twise", "3")
    assert (called.code, called.out) == (2, "")
    assert called.err == "error: No such command 'twise'. Did you mean 'twice'?\nhint: `xlm run toy -h` shows what it takes.\n"
    called = xlm("run", "toy", "twice", "many")
    assert called.code == 2
    assert called.err.endswith("hint: `xlm run toy twice -h` shows what it takes.\n")
    called = xlm("run", "toy", "fail")
    assert (called.code, called.err) == (2, "error: there are no toys\nhint: Buy one.\n")
    called = xlm("run", "plain", "twice", "3")
    assert called.code == 3
    assert "family 'plain' (xlm-family-plain 1.2.3) brings no commands" in called.err
    assert xlm("run", "tow", "twice").err == "error: no family named 'tow' is installed\nhint: Did you mean 'toy'?\n"


@pytest.mark.parametrize(
    ("commands", "fault"),
    [("raise OSError('lost')", "fails in xlm_commands: OSError: lost"), ("commands = []", "gives list in xlm_commands")],
)
def test_broken_commands_are_the_familys_fault(xlm, toy, commands, fault):
    toy(commands=commands)
    called = xlm("run", "toy", "twice", "3")
    assert called.code == 3
    assert f"family 'toy' (xlm-family-toy 1.2.3) {fault}" in called.err


def test_commands_are_imported_when_they_are_called_and_only_then(toy, site):
    toy()
    toy("other")
    probe = (
        "import sys\nfrom xlm_core.cli.app import main\ntry:\n    main({!r})\nexcept SystemExit:\n    pass\n"
        "print([name for name in sys.modules if name.startswith('xlm_family_') and name.endswith('commands')])"
    )

    def imported(*arguments):
        code = probe.format([*arguments])
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    assert imported("families", "show", "toy") == "[]"
    assert imported("run", "toy", "twice", "3") == "['xlm_family_toy.commands']"


def test_dream_tells_how_far_its_fast_decoder_agrees(xlm, monkeypatch, fake, tmp_path):
    """Both decoders answer the same rows with the same seed; only what is approximate differs."""
    from types import SimpleNamespace

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    asked = []

    def generate(folder, *, prompts, n, seed, checkpoint, overrides):
        asked.append((folder.name, prompts, n, seed, checkpoint, list(overrides)))
        exact = "predictor.cache=none" in overrides
        for row in [[5, 6, 7], [5], []]:
            yield SimpleNamespace(ids=row if exact else [*row, 8] if row == [5] else row, nfe=4 if exact else 1)

    monkeypatch.setattr(sys.modules["xlm_core.run"], "generate", generate)
    called = xlm("run", "dream", "agreement", tmp_path / "run", "-n", "3", "--seed", "2", "--json")
    assert json.loads(called.out) == {
        "rows": 3,
        "equal_rows": 2,
        "tokens": 5,
        "equal_tokens": 4,
        "evaluations": 3,
        "exact_evaluations": 12,
    }
    one, other = asked
    assert one == ("run", None, 3, 2, "best", ["predictor=dream_fast"])
    exact = ["predictor.cache=none", "predictor.threshold=null", "predictor.report_agreement=false"]
    assert other == (*one[:-1], ["predictor=dream_fast", *exact])
    assert "4 of 5 tokens (80.0 %) and 2 of 3 rows" in xlm("run", "dream", "agreement", tmp_path / "run").out
