"""What ails an installed family: what its files tell without importing it, and what only loading it tells, which is done in a
process of its own, where it can break nothing."""

from __future__ import annotations

import ast
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from xlm_core import families, searchpath
from xlm_core.errors import FamilyError, XlmError
from xlm_core.families import FamilyRecord
from xlm_core.searchpath import Source

TIMEOUT = 120.0
"""Seconds that a family may take to load and to compose its configs."""
MARK = "xlm-diagnosis:"
"""Begins the child's answer: a plugin may print what it likes."""


class Finding(NamedTuple):
    """A family after it was loaded, or would not be."""

    record: FamilyRecord
    """Its status is `broken` where the look found something."""
    seconds: float | None = None
    """How long it took to load; None where it was not loaded."""


def at_rest(record: FamilyRecord) -> FamilyRecord:
    """What a family's files tell: those that are missing, that cannot be read, that have names of others, and misspelt hooks.

    Nothing of the family is imported, so a plugin that raises when it is imported looks sound.
    """
    if record.status != "ok":
        return record
    try:
        faults = [*_faults_of_module(record), *_faults_of_yaml(searchpath.source_of(record))]
    except FamilyError as error:
        faults = [_without_name(error, record)]
    return replace(record, status="broken", detail=faults[0]) if faults else record


def awake(records: Sequence[FamilyRecord]) -> Iterator[Finding]:
    """The same families in the same order, each of those that can be used loaded, and its configs composed."""
    from concurrent.futures import ThreadPoolExecutor  # here, because a look at rest must be quick

    with ThreadPoolExecutor(max(1, min(len(records), os.cpu_count() or 1))) as pool:
        yield from pool.map(_look, records)


def tell(name: str) -> None:
    """Load a family, compose its configs, and print, as JSON, what is wrong and how long loading took. The child's side."""
    start = time.perf_counter()
    answer: dict[str, str | float] = {}
    try:
        family = families.load(name)
        answer["seconds"] = time.perf_counter() - start

        from xlm_core import composition

        data = ["data.name=none", f"data.layout={family.info.layouts[0]}", "data.source.kind=function", "tokenizer.kind=byte"]
        composition.check(composition.compose([f"family={name}", *data], [name]), family)
    except XlmError as error:
        answer["fault"] = _without_name(error, families.find(name))
    print(f"\n{MARK}{json.dumps(answer)}", flush=True)


def _look(record: FamilyRecord) -> Finding:
    import subprocess

    if record.status != "ok":
        return Finding(record)
    command = [sys.executable, "-c", f"from xlm_core.diagnosis import tell; tell({record.name!r})"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, errors="replace")
    except subprocess.TimeoutExpired:
        return Finding(replace(record, status="broken", detail=f"does not load within {TIMEOUT:.0f} s"))
    answers = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not answers:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return Finding(replace(record, status="broken", detail=f"ends Python with exit code {done.returncode}: {last}"))
    answer = json.loads(answers[-1].removeprefix(MARK))
    fault = answer.get("fault")
    # One that loads may still ship files which nobody asked for yet and which are broken.
    return Finding(replace(record, status="broken", detail=fault) if fault else at_rest(record), answer.get("seconds"))


def _faults_of_module(record: FamilyRecord) -> Iterator[str]:
    """The module of the hooks is not there, is not Python, or has hooks that do not exist."""
    file = _file(record)
    if file is None:
        yield f"has no module {record.target}"
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        yield f"is no Python in {file.name}{f', line {line}' if line else ''}: {getattr(error, 'msg', error)}"
        return
    known = families.HOOKS + families.OPTIONAL
    for name in _hooks(tree):
        if name not in known:
            yield f"implements the unknown hook {name!r}. {families.nearest(name, known)}".strip()


def _file(record: FamilyRecord) -> Path | None:
    """Where the module of the hooks is, found without importing the package that it is in."""
    package, *rest = record.target.partition(":")[0].split(".")
    spec = find_spec(package)
    if spec is None or not rest:
        return Path(spec.origin) if spec and spec.origin else None
    places = [Path(place).joinpath(*rest) for place in spec.submodule_search_locations or []]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return next((file for file in files if file.is_file()), None)


def _hooks(tree: ast.Module) -> Iterator[str]:
    """Names of the functions that are marked with plain `@hookimpl`, or with options that give them no other name."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            options = {keyword.arg for keyword in mark.keywords} if isinstance(mark, ast.Call) else set()
            name = ast.unparse(mark.func if isinstance(mark, ast.Call) else mark).rpartition(".")[2]
            if name == "hookimpl" and not options & {"specname", "optionalhook", None}:
                yield node.name


def _faults_of_yaml(source: Source) -> Iterator[str]:
    import yaml

    # Syntax alone: what the words mean takes twice as long to make out.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for name, file in source.files().items():
        try:
            for _ in yaml.parse(file.read_bytes(), loader):
                pass
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}," if mark else ""
            yield f"ships {name}.yaml, which{line} is not YAML: {getattr(error, 'problem', None) or error}"


def _without_name(error: XlmError, record: FamilyRecord) -> str:
    """The sentence without its subject, which stands in the same row of the table; a misspelling's hint is worth its place."""
    said = error.message.removeprefix(f"family {record.name!r} ({record.origin}) ")
    return f"{said}. {error.hint}" if error.hint.startswith("Did you mean") else said
