"""`xlm generate`."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xlm_core.cli import output
from xlm_core.cli.options import Checkpoint, Overrides, Run
from xlm_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xlm_core.run import Sample


def generate(
    run: Run,
    overrides: Overrides = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A text to continue; can be repeated.")] = None,
    prompts: Annotated[str | None, typer.Option("--prompts", help="A file with one prompt a line, or - for stdin.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Samples for each prompt, or in all.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds give equal texts.")] = 0,
    checkpoint: Checkpoint = "best",
    watch: Annotated[bool, typer.Option("--watch", help="Replay how each text came to be.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Put the event log into --json and --output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Write JSON lines to this file instead.")] = None,
) -> None:
    """Generate from a run: from prompts, or from nothing."""
    if watch and (as_json or out):
        raise ConfigError(
            "--watch shows and --json or --output record: take one", "--trace puts the event log into the record."
        )
    texts = _prompts(prompt or [], prompts)

    from xlm_core import run as runs

    folder = runs.find(run)
    samples = runs.generate(
        folder, prompts=texts, n=n, seed=seed, checkpoint=checkpoint, trace=watch or trace, overrides=overrides or []
    )
    if out is not None:
        _write(out, samples, trace)
    elif watch:
        from xlm_core.cli.watch import watch as replay
        from xlm_core.inspection import tokenizer as tokenizer_of

        tokenizer = tokenizer_of(folder)
        for sample in samples:
            replay(sample, lambda token: str(tokenizer.decode([token])))
    else:
        for sample in samples:
            print(output.to_json(output.sample(sample, trace), indent=None) if as_json else _line(sample), flush=True)


def _prompts(given: list[str], source: str | None) -> list[str] | None:
    """All prompts, or None where there are none."""
    if source == "-" or (source is None and not given and _piped()):
        output.say("reading prompts from stdin, one a line")
        return [*given, *sys.stdin.read().splitlines()] or None
    if source is not None:
        try:
            given = [*given, *Path(source).read_text(encoding="utf-8").splitlines()]
        except OSError as error:
            raise ConfigError(
                f"cannot read the prompts in {source}: {error.strerror}", "--prompts takes a file, or - for stdin."
            ) from error
        if not given:
            raise ConfigError(f"{source} holds no prompt", "One prompt a line.")
    return given or None


def _piped() -> bool:
    """Whether stdin is a pipe or a file; a closed stdin, a terminal and /dev/null are neither."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _line(sample: Sample) -> str:
    return f"{sample.prompt} -> {sample.text}" if sample.prompt else sample.text


def _write(path: Path, samples: Iterable[Sample], trace: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            rows = [file.write(output.to_json(output.sample(sample, trace), indent=None) + "\n") for sample in samples]
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    output.say(f"wrote {len(rows)} samples to {path}")
