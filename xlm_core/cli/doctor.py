"""`xlm doctor`."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import typer

from xlm_core.cli import output
from xlm_core.cli.options import Json

TIMEOUT = 600
ENOUGH_DISK = 5e9


class Finding(NamedTuple):
    """One line of the report."""

    check: str
    status: Literal["ok", "note", "fail"]
    detail: str


def doctor(as_json: Json = False) -> None:
    """Look over the installation: each family loads and composes, hardware, disk, loggers. Exit 1 when something is broken."""
    findings = [*_core(), *_script(), _hardware(), *_families(), _disk(), *_loggers()]
    output.table([finding._asdict() for finding in findings], as_json)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


def hardware() -> None:
    """Print, as JSON, what a run would compute on. Runs in a process of its own."""
    from xlm_core import inspection

    print(json.dumps(inspection.hardware()))


def family(name: str) -> None:
    """Check a family and its configs, and print, as JSON, how long it takes to load. Runs in a process of its own."""
    import time

    from xlm_core import composition, families

    start = time.perf_counter()
    loaded = families.load(name)
    seconds = time.perf_counter() - start
    data = ["data.name=doctor", f"data.layout={loaded.info.layouts[0]}", "data.source.kind=function", "tokenizer.kind=byte"]
    composition.check(composition.compose([f"family={name}", *data], [name]), loaded)
    print(json.dumps(f"{loaded.record.origin}, loads in {seconds:.2f} s, its configs compose"))


def _core() -> Iterator[Finding]:
    from importlib_metadata import distributions, version

    import xlm_core

    yield Finding("python", "ok", f"{platform.python_version()}, {sys.executable}")
    copies = [str(found.locate_file("")) for found in distributions(name="xlm-core")]
    where = f"{version('xlm-core')}, {xlm_core.__path__[0]}"
    yield (
        Finding("core", "ok", where)
        if len(copies) == 1
        else Finding("core", "fail", f"installed {len(copies)} times: {copies}")
    )


def _script() -> Iterator[Finding]:
    """Another package that brings a command `xlm` overwrites ours, or is overwritten."""
    from importlib_metadata import entry_points

    scripts = entry_points(group="console_scripts", name="xlm")
    owners = sorted({f"{point.dist.name} {point.dist.version}" for point in scripts if point.dist is not None})
    alone = all(owner.startswith("xlm-core ") for owner in owners)
    yield (
        Finding("command", "ok", shutil.which("xlm") or "not on PATH; `python -m xlm_core` is the same")
        if alone
        else Finding("command", "fail", f"these packages all bring a command xlm: {', '.join(owners)}")
    )


def _hardware() -> Finding:
    return _probe("hardware", "hardware()")


def _families() -> Iterator[Finding]:
    from xlm_core.families import installed

    records = installed()
    if not records:
        yield Finding("families", "note", "none is installed: pip install xlm-family-NAME")
    for name, record in records.items():
        check = f"family {name}"
        if record.status == "ok":
            yield _probe(check, f"family({name!r})")
        else:
            status: Literal["note", "fail"] = "note" if record.status == "disabled" else "fail"
            yield Finding(check, status, f"{record.origin}: {record.detail}")


def _probe(check: str, call: str) -> Finding:
    """Call a function of this file in a process of its own, which may break."""
    code = f"from xlm_core.cli import doctor; doctor.{call}"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return Finding(check, "fail", f"no answer in {TIMEOUT} s")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Finding(check, "fail", lines[-1])
    detail: Any = json.loads(done.stdout.strip().splitlines()[-1])
    return Finding(check, "ok", str(detail))


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    return Finding("disk", "ok" if free > ENOUGH_DISK else "fail", f"{free / 1e9:.1f} GB free here")


def _loggers() -> Iterator[Finding]:
    from importlib.util import find_spec

    yield Finding("logger csv", "ok", "always there")
    for name in ("tensorboard", "wandb"):
        there = find_spec(name) is not None
        yield Finding(f"logger {name}", "ok" if there else "note", "installed" if there else f"pip install 'xlm-core[{name}]'")
