"""The limited process, from outside: ask it one thing after another, and replace it when it dies."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xlm_core.errors import ConfigError, XlmError

BEGIN = """
import json, sys
given = json.loads(sys.argv[1])
sys.path[:0] = given["path"]
from xlm_core.sandbox.child import main
main(given)
"""
REQUESTS = 500
"""That one process answers before a fresh one takes its place."""
START = 300.0
"""Seconds on the wall in which a process must be ready."""
LONGEST = 2**20
"""Bytes of a reply."""
HOME = str(Path(__file__).parents[2])


class Died(Exception):
    """The process did not answer: it took too long, too much, or crashed."""


class Worker:
    """A process that computes with what nobody trusts.

    Args:
        job: the module whose `answer` it calls. It is imported before the limits hold.
        path: where Python finds modules there, beside its standard library.
        seconds: of computing for one request.
        patience: seconds on the wall for one request. A busy machine takes many for little computing.
        megabytes: of memory.
        filtered: ask the kernel to take system calls away where it can.

    Raises:
        ConfigError: the platform cannot limit a process.
        XlmError: the process does not start.
    """

    def __init__(
        self,
        job: str,
        *,
        path: Sequence[str] = (),
        seconds: float = 10.0,
        patience: float = 300.0,
        megabytes: int = 512,
        filtered: bool = True,
    ) -> None:
        if os.name != "posix":
            hint = "Use Linux, macOS or WSL, or leave the evaluator out: '~data.evaluators'."
            raise ConfigError("generated programs and formulas are computed only where processes can be limited", hint)
        lifetime = int(seconds * (REQUESTS + 1)) + 1
        self._given = {"job": job, "path": [HOME, *path], "seconds": seconds, "megabytes": megabytes, "lifetime": lifetime}
        self._given["filtered"] = filtered
        self.patience = patience
        self.limits: list[str] = []
        """What holds in the process that runs now."""
        self._process: subprocess.Popen[bytes] | None = None
        self._answered = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            Died: there is none. The next request gets a fresh process.
        """
        if self._process is None or self._answered >= REQUESTS:
            self._start()
        self._answered += 1
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            reply = json.loads(self._line(self.patience))
            if not isinstance(reply, dict):
                raise Died("an answer that is none")
        except (OSError, ValueError, RecursionError, Died) as error:
            self.close()
            raise Died(str(error)) from error
        return reply

    def _start(self) -> None:
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="xlm-sandbox-")
        # Nothing of this process's environment but where its libraries are, and a fixed seed for the order of sets.
        environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-S", "-P", "-B", "-c", BEGIN, json.dumps(self._given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={**environment, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        self._answered = 0
        try:
            self.limits = json.loads(self._line(START))["ready"]
        except (OSError, ValueError, KeyError, Died) as error:
            self.close()
            raise XlmError(
                "the limited process for generated code does not start", f"{type(error).__name__}: {error}"
            ) from error

    def _line(self, seconds: float) -> bytes:
        """What the process writes, up to the end of the line."""
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        end, line = time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise Died("no answer in time")
                got = os.read(pipe, 65536)
                line += got
                if not got or len(line) > LONGEST:
                    raise Died("the process ended" if not got else "an answer without end")
        return line

    def close(self) -> None:
        """End the process with all that it might have started. The next request starts another."""
        process, self._process = self._process, None
        folder, self._folder = self._folder, None
        if process is not None:
            _end(process)
        if folder is not None:
            folder.cleanup()


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        try:
            pipe.close()
        except OSError:
            continue  # what was not read when it died
