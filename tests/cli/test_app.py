from __future__ import annotations

import pytest

from xlm_core.errors import CheckpointError, ConfigError, DataError, FamilyError, Interrupted, XlmError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "--prest", "cpu"], "No such option: --prest"),
        (["eval"], "takes a run, or --predictions with --data"),
        (["generate", "run", "-n", "many"], "Invalid value for '-n'"),
        (["train", "--family", "toy"], "train needs --family and --data"),
    ],
)
def test_a_wrong_command_line_is_two_lines_and_exit_2(xlm, arguments, message):
    called = xlm(*arguments)
    error, hint = called.err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert hint.startswith("hint: ")
    assert (called.code, called.out) == (2, "")


@pytest.mark.parametrize("arguments", [[], ["families"], ["data"], ["configs"]])
def test_without_arguments_help_is_shown(xlm, arguments):
    called = xlm(*arguments)
    assert "Usage: xlm" in called.out
    assert (called.code, called.err) == (2, "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(xlm, flag):
    called = xlm(flag)
    assert called.code == 0
    for command in ("train", "eval", "generate", "prepare-data", "doctor", "families", "data", "configs"):
        assert command in called.out
    assert "--multirun" in xlm("train", flag).out


@pytest.mark.parametrize(
    ("kind", "code"),
    [(XlmError, 1), (ConfigError, 2), (DataError, 2), (CheckpointError, 2), (FamilyError, 3), (Interrupted, 130)],
)
def test_exit_codes(xlm, fake, tmp_path, kind, code):
    (tmp_path / "config.yaml").write_text("")
    fake.failure = kind("what is wrong", "what to do")
    called = xlm("eval", tmp_path)
    assert (called.code, called.out, called.err) == (code, "", "error: what is wrong\nhint: what to do\n")


def test_ctrl_c_is_130(xlm, fake, tmp_path):
    (tmp_path / "config.yaml").write_text("")
    fake.failure = KeyboardInterrupt()
    assert xlm("eval", tmp_path).code == 130


def test_a_bug_keeps_its_traceback(xlm, fake, tmp_path):
    (tmp_path / "config.yaml").write_text("")
    fake.failure = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        xlm("eval", tmp_path)


def test_the_traceback_of_a_slip_is_shown_on_demand(xlm, site, monkeypatch):
    site.install("toy", init="raise RuntimeError('no libcudart.so')")
    plain = xlm("families", "show", "toy")
    assert len(plain.err.splitlines()) == 2
    monkeypatch.setenv("XLM_DEBUG", "1")
    shown = xlm("families", "show", "toy")
    assert "Traceback" in shown.err
    assert shown.err.endswith(plain.err)
    assert shown.code == plain.code == 3
