"""The process alone, with a job that is hostile: what the interpreter would never do is tried here."""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path

import pytest

from xlm_core.errors import ConfigError, XlmError
from xlm_core.sandbox import seccomp, worker
from xlm_core.sandbox.worker import Died, Worker

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are limited on Linux and macOS")
LINUX = sys.platform.startswith("linux")
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module", params=[True, False], ids=["filtered", "limits alone"])
def hostile(request):
    with Worker("hostile", path=[HERE], megabytes=400, filtered=request.param) as worker:
        assert worker.ask({"what": "add", "a": 2, "b": 3}) == {"done": 5}
        if LINUX:
            expected = {"RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_NOFILE"}
            assert set(worker.limits) >= expected
        yield worker


@pytest.mark.parametrize("what", ["read", "write", "reopen"])
def test_no_file_is_opened(hostile, what, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    assert "error" in hostile.ask({"what": what, "path": str(file)})
    assert file.read_text() == "mine"


@pytest.mark.parametrize("what", ["socket", "connect"])
def test_no_socket(hostile, what):
    assert hostile.ask({"what": what})["error"] in ("OSError", "PermissionError", "LookupError", "gaierror")


def test_no_limit_is_lifted(hostile, tmp_path):
    hostile.ask({"what": "unlimit"})  # the superuser may, where seccomp is not
    if "seccomp" in hostile.limits or os.getuid():
        assert "error" in hostile.ask({"what": "list", "path": str(tmp_path)})
    hostile.close()


def test_no_memory_beyond_the_limit(hostile):
    if "RLIMIT_AS" in hostile.limits:
        assert hostile.ask({"what": "memory", "megabytes": 1000}) == {"error": "MemoryError"}
        assert hostile.ask({"what": "memory", "megabytes": 50})["done"] == 50 * 2**20


@pytest.mark.parametrize("request_", [{"what": "fork"}, {"what": "start"}, {"what": "thread"}, {"what": "signal", "pid": 1}])
def test_no_other_process_is_started_or_touched(hostile, request_):
    if "seccomp" not in hostile.limits:
        pytest.skip("the superuser may, without seccomp")
    assert "error" in hostile.ask(request_)


def test_nothing_is_removed_or_listed(hostile, tmp_path):
    if "seccomp" not in hostile.limits:
        pytest.skip("it needs no open file")
    (tmp_path / "file").touch()
    assert "error" in hostile.ask({"what": "remove", "path": str(tmp_path / "file")})
    assert (tmp_path / "file").exists()


def test_nothing_of_this_process_is_there(hostile, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    hostile.close()
    found = hostile.ask({"what": "around"})["done"]
    assert set(found["environment"]) <= {"PYTHONHASHSEED", "LD_LIBRARY_PATH", "LC_CTYPE"}
    assert found["site"] is False
    assert not any("site-packages" in path for path in set(found["path"]) - {worker.HOME})
    assert os.getsid(found["process"]) == found["process"]


@pytest.mark.parametrize("what", ["loop", "one_call", "flood", "crash", "lie", "nest", "end"])
def test_what_does_not_answer_is_ended_and_the_next_request_is_answered(what):
    with Worker("hostile", path=[HERE], seconds=0.2) as hostile:
        with pytest.raises(Died) as caught:
            hostile.ask({"what": what})
        assert "in time" not in str(caught.value)
        assert hostile.ask({"what": "add", "a": 1, "b": 1}) == {"done": 2}


def test_what_waits_without_computing_is_ended_too():
    with Worker("hostile", path=[HERE], patience=0.3) as hostile, pytest.raises(Died, match="in time"):
        hostile.ask({"what": "wait"})


def test_what_was_started_is_ended_with_it():
    with Worker("hostile", path=[HERE], filtered=False) as hostile:
        started = hostile.ask({"what": "fork"})
    if "error" in started:
        return  # the limit of processes held
    for _ in range(200):
        state = Path(f"/proc/{started['done']}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the child lives")


def test_a_process_is_replaced_after_so_many_requests(monkeypatch):
    monkeypatch.setattr(worker, "REQUESTS", 2)
    with Worker("hostile", path=[HERE]) as hostile:
        found = [hostile.ask({"what": "around"})["done"]["process"] for _ in range(5)]
    assert [found.count(one) for one in dict.fromkeys(found)] == [2, 2, 1]


def test_a_job_that_does_not_load():
    with Worker("no_such_job") as none, pytest.raises(XlmError, match="does not start"):
        none.ask({})


def test_where_processes_cannot_be_limited(monkeypatch):
    monkeypatch.setattr(worker.os, "name", "nt")
    with pytest.raises(ConfigError, match="only where processes can be limited") as caught:
        Worker("hostile")
    assert "~data.evaluators" in caught.value.hint


def decide(program, architecture, number):
    """What a BPF program answers to a system call."""
    place = 0
    word = {seccomp.ARCHITECTURE: architecture, seccomp.NUMBER: number}
    while True:
        code, yes, no, operand = struct.unpack_from("=HBBI", program, 8 * place)
        if code == seccomp.RETURN:
            return operand
        if code == seccomp.LOAD:
            loaded = word[operand]
        else:
            assert code == seccomp.EQUAL
            place += yes if loaded == operand else no
        place += 1


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_filter_lets_through_what_is_listed_and_nothing_else(machine):
    architecture, calls = seccomp.MACHINES[machine]
    program = seccomp.rules(architecture, calls)
    for number in range(600):
        expected = seccomp.ALLOW if number in calls else seccomp.DENY
        assert decide(program, architecture, number) == expected
        assert decide(program, architecture + 1, number) == seccomp.DENY
        assert decide(program, architecture, number + 0x40000000) == seccomp.DENY
