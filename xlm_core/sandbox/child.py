"""The limited process, from inside: load the job, give everything away, then answer one line of JSON with another."""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
from typing import Any

from xlm_core.sandbox import seccomp

RECURSION = 6000


def main(arguments: dict[str, Any]) -> None:
    """Args: `job`, a module with `answer(request)` and perhaps `prepare()`; `seconds` of computing for each request;
    `lifetime`, for all requests; `megabytes` of memory; `filtered`, whether to use seccomp."""
    job = importlib.import_module(arguments["job"])
    getattr(job, "prepare", lambda: None)()
    sys.setrecursionlimit(RECURSION)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent decides
    _say({"ready": limit(arguments["megabytes"], arguments["lifetime"], filtered=arguments["filtered"])})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, arguments["seconds"])  # nobody handles its signal, so the kernel ends the process
        reply = job.answer(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(reply)
    os._exit(0)


def limit(megabytes: int, lifetime: int, *, filtered: bool) -> list[str]:
    """Give away what can be given away here.

    Returns:
        The names of the limits that hold. macOS has no RLIMIT_AS and no seccomp: a job can remove files, though open none.
    """
    wanted = {
        "RLIMIT_AS": megabytes * 2**20,
        "RLIMIT_CPU": lifetime,
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NPROC": 0,
        "RLIMIT_NOFILE": 0,  # what is open stays open, and nothing else can be: no file, no socket
    }
    held = []
    for name, value in wanted.items():
        try:
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
        except (AttributeError, ValueError, OSError):
            continue
        held.append(name)
    return [*held, "seccomp"] if filtered and seccomp.lock() else held


def _say(reply: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
    sys.stdout.buffer.flush()
