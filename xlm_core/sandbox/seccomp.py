"""Linux: take every system call away from this process but those that computing needs (seccomp(2), filter mode).

What is not in the list fails with "operation not permitted": opening or removing files, sockets, new processes and threads,
signals to others. Nothing gives a call back.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys

# Numbers from the kernel's tables: read and write (of what is open), memory, signals to itself, clocks, exit.
X86_64 = (0, 1, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 36, 37, 38, 39, 60, 96, 98, 131, 186, 201, 202, 219, 228, 231, 318)
AARCH64 = (
    63,
    64,
    93,
    94,
    98,
    102,
    103,
    113,
    124,
    128,
    132,
    134,
    135,
    139,
    165,
    169,
    172,
    178,
    214,
    215,
    216,
    222,
    226,
    233,
    278,
)
MACHINES = {"x86_64": (0xC000003E, X86_64), "aarch64": (0xC00000B7, AARCH64)}

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
"""BPF: load a word of the call's description, jump if it equals, end."""
NUMBER, ARCHITECTURE = 0, 4
"""Where in the description these are."""
ALLOW, DENY = 0x7FFF0000, 0x00050000 | errno.EPERM
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2


def rules(architecture: int, calls: tuple[int, ...]) -> bytes:
    """The filter as a BPF program of 8 bytes an instruction: code, jump if true, jump if false, operand."""
    ending = len(calls) + 1
    program = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 0, ending, architecture), (LOAD, 0, 0, NUMBER)]
    program += [(EQUAL, len(calls) - place, 0, call) for place, call in enumerate(calls)]
    program += [(RETURN, 0, 0, DENY), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def lock() -> bool:
    """Whether the filter holds from now on: it needs Linux on x86-64 or ARM, and a kernel that lets it."""
    if not sys.platform.startswith("linux") or platform.machine() not in MACHINES or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    program = rules(*MACHINES[platform.machine()])
    kept = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    numbers = [ctypes.c_ulong(number) for number in (1, 0, 0, 0)]
    return bool(prctl(NO_NEW_PRIVILEGES, *numbers) == 0 and prctl(SECCOMP, ctypes.c_ulong(FILTER), header) == 0)
