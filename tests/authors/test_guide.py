"""The author's guide: its blocks are written out, installed and run, and its hooks are those of core."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from xlm_core import families, hookspecs
from xlm_core.cli.app import main
from xlm_core.testing import batches, checks, decoding, objective, packaging, report
from xlm_core.testing.building import Built

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "examples" / "draft_and_revise.md"
MOST_LINES = 150
SLOW = {packaging.imports_are_light, decoding.a_text_learnt_is_decoded, objective.training_resumes}
NOT_APPLICABLE = {objective.packed_rows_train, checks.exact_laws_hold}


class Block(NamedTuple):
    language: str
    path: str
    """Where its file belongs; empty for one that is run."""
    text: str


def blocks() -> list[Block]:
    pattern = r"^```(\w*)\n(?:# (\S+\.\w+)\n)?(.*?)^```$"
    return [Block(*found) for found in re.findall(pattern, GUIDE.read_text(), re.MULTILINE | re.DOTALL)]


def lines(language: str) -> list[str]:
    return [line for block in blocks() if block.language == language for line in block.text.splitlines()]


@pytest.fixture
def written(tmp_path):
    folder = tmp_path / "guide"
    for block in blocks():
        if block.path:
            (folder / block.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.path).write_text(block.text)
    return folder


def test_every_block_is_a_file_or_is_run():
    kinds = {(block.language, Path(block.path).suffix) for block in blocks()}
    assert kinds == {("toml", ".toml"), ("python", ".py"), ("yaml", ".yaml"), ("bash", ""), ("python", "")}
    assert {line.split()[0] for line in lines("bash")} == {"pip", "xlm"}
    for block in blocks():
        if block.language == "python" and not block.path:
            exec(compile(block.text, str(GUIDE), "exec"), {})


def test_the_family_is_short():
    code = [block.text for block in blocks() if block.path.endswith(".py")]
    assert len(code) == 5
    assert sum(text.count("\n") for text in code) < MOST_LINES


def test_hooks_have_the_signatures_of_core():
    def signatures(source):
        found = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
        return {node.name: (ast.unparse(node.args), ast.unparse(node.returns)) for node in found}

    [shown] = [block.text for block in blocks() if block.language == "python" and not block.path]
    assert signatures(shown) == signatures(Path(hookspecs.__file__).read_text())
    assert set(signatures(shown)) == {*families.HOOKS, *families.OPTIONAL}
    table = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `xlm_")]
    assert [re.match(r"\| `(\w+)`", line)[1] for line in table] == [*families.HOOKS, *families.OPTIONAL]


def test_the_family_keeps_the_contract(written, install):
    install(written)
    built = Built(families.load("draft"))
    for check in checks.CHECKS:
        if check not in SLOW | NOT_APPLICABLE:
            check(built)
    parts = built.lively("seq2seq")
    logs = parts.decode(built.prompts("seq2seq"), trace=True).traces
    assert {event.operation for log in logs for event in log.events} == {"unmask", "remask"}


def test_the_commands_run(written, install, tmp_path, monkeypatch, capfd):
    """`pip` is the wheel's installation, and of the checks the quick ones are enough: nox runs the rest."""
    install(written)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "CHECKS", (packaging.configs_are_prefixed, packaging.parts_build, batches.layouts_collate))
    ran = []
    for line in lines("bash"):
        command, *arguments = shlex.split(line)
        if command == "pip":
            continue
        if arguments[0] == "train":
            arguments += ["trainer.max_steps=2", "trainer.batch_size=4", "trainer.micro_batch_size=4", "model.dim=16"]
            arguments += [f"data.splits.{split}.rows=4" for split in ("train", "validation", "test")]
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert not caught.value.code, (line, capfd.readouterr().err)
        ran.append(arguments[0])
    assert ran == ["families", "train", "generate", "families"]
    assert "test/loss" in capfd.readouterr().out
