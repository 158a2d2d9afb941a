"""The hash of a function's code: what it must notice, and what it must not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from xlm_core.data.dotted import code_hash

FILES = {
    "__init__.py": "from .rows import preprocess\n",
    "rows.py": "from mine_of_mine.shared import SIZE\nfrom . import words\n\ndef preprocess(rows):\n    return words, SIZE\n",
    "words.py": "import mine_of_mine.deep.deeper\nWORDS = 1\n",
    "shared.py": "SIZE = 3\n",
    "deep/__init__.py": "",
    "deep/deeper.py": "def deep():\n    from ..words import WORDS\n    return WORDS\n",
    "other.py": "OTHER = 5\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "mine_of_mine"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine_of_mine"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", FILES)
def test_it_changes_with_what_the_function_uses_and_with_nothing_else(package, name):
    before = code_hash("mine_of_mine.rows.preprocess")
    assert code_hash("mine_of_mine.preprocess") == before
    (package / name).write_text(FILES[name] + "# changed\n")
    used = name not in ("other.py", "deep/__init__.py")
    assert (code_hash("mine_of_mine.rows.preprocess") != before) == used


def test_a_task_of_core_is_known_by_what_it_shares_with_other_tasks_and_by_nothing_further(monkeypatch):
    read, real = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or real(path))
    code_hash("xlm_core.tasks.queens.generate")
    assert {"boards.py", "splits.py"} <= set(read)
    assert "errors.py" not in read
