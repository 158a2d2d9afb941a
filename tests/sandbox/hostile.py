"""A job that does what no program of the inner wall could: the outer wall is tested alone."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time


def answer(request):
    try:
        return {"done": globals()[f"_{request['what']}"](**{k: v for k, v in request.items() if k != "what"})}
    except Exception as error:
        return {"error": type(error).__name__}


def _add(a, b):
    return a + b


def _read(path):
    return open(path).read()


def _write(path):
    return open(path, "w").write("x")


def _reopen(path):
    """A file in the place of one that was open."""
    os.close(2)
    return open(path).read()


def _remove(path):
    return os.remove(path)


def _list(path):
    return os.listdir(path)


def _connect():
    return socket.create_connection(("127.0.0.1", 9), 1)


def _socket():
    return socket.socket().fileno()


def _fork():
    child = os.fork()
    if child == 0:
        time.sleep(600)
    return child


def _start():
    return subprocess.run([sys.executable, "-c", "0"]).returncode


def _thread():
    return threading.Thread(target=len, args=("x",)).start()


def _signal(pid):
    return os.kill(pid, signal.SIGCONT)


def _unlimit():
    import resource

    return resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def _memory(megabytes):
    return len(bytearray(megabytes * 2**20))


def _loop():
    while True:
        pass


def _one_call():
    """Python looks at no signal inside."""
    return len(str(7 ** (7**9))) + 9 ** (9**9)


def _wait():
    """Without computing."""
    return sys.stdin.buffer.read(1)


def _flood():
    while True:
        os.write(1, b"x" * 65536)


def _crash():
    return ctypes.string_at(0)


def _lie():
    os.write(1, b"[1, 2]\n")
    return _loop()


def _nest():
    os.write(1, b"[" * 200_000 + b"]" * 200_000 + b"\n")
    return _loop()


def _end():
    os._exit(0)


def _around():
    return {"environment": sorted(os.environ), "path": sys.path, "site": "site" in sys.modules, "process": os.getpid()}
