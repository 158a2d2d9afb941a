"""`xlm doctor`."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Literal, NamedTuple

import typer

from xlm_core.cli import output
from xlm_core.cli.options import Json

TIMEOUT = 600
ENOUGH_DISK = 5e9
PROBE = "import json; from xlm_core import inspection; print(json.dumps(inspection.hardware()))"


class Finding(NamedTuple):
    """One line of the report."""

    check: str
    status: Literal["ok", "note", "fail"]
    detail: str


def doctor(as_json: Json = False) -> None:
    """Look over the installation: each family loads and composes, hardware, disk, loggers. Exit 1 when something is broken."""
    findings = [*_core(), *_script(), *_hardware(), *_families(), _disk(), *_loggers()]
    output.table([finding._asdict() for finding in findings], as_json)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


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


def _hardware() -> Iterator[Finding]:
    """In a process of its own, for torch can fail in ways that end Python."""
    try:
        done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        yield Finding("torch", "fail", f"no answer in {TIMEOUT} s")
        return
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        yield Finding("torch", "fail", lines[-1])
        return
    for check, detail in json.loads(done.stdout.strip().splitlines()[-1]).items():
        yield Finding(check, "ok", detail)


def _families() -> Iterator[Finding]:
    """Each in a process of its own: metadata, files, hooks, and its configs composed."""
    from xlm_core import diagnosis
    from xlm_core.families import installed

    records = list(installed().values())
    if not records:
        yield Finding("families", "note", "none is installed: pip install xlm-family-NAME")
    for record, seconds in diagnosis.awake(records):
        told = [record.origin] if record.status != "conflict" else []
        told += [f"loads in {seconds:.2f} s"] if seconds is not None else []
        told += ["its configs compose"] if record.status == "ok" else []
        told += [record.detail] if record.detail else []
        colour = {"ok": "note" if record.detail else "ok", "disabled": "note"}.get(record.status, "fail")
        yield Finding(f"family {record.name}", colour, ", ".join(told))  # type: ignore[arg-type]


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    return Finding("disk", "ok" if free > ENOUGH_DISK else "fail", f"{free / 1e9:.1f} GB free here")


def _loggers() -> Iterator[Finding]:
    from importlib.util import find_spec

    yield Finding("logger csv", "ok", "always there")
    for name in ("tensorboard", "wandb"):
        there = find_spec(name) is not None
        yield Finding(f"logger {name}", "ok" if there else "note", "installed" if there else f"pip install 'xlm-core[{name}]'")
