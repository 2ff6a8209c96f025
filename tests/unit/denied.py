# SPDX-License-Identifier: MIT
"""A process in which system calls fail as told: what a test does to a host that is in order.

Run as a program: ``denied.py RULES CODE``, where RULES is JSON: a list of [system call, its second argument
or null, errno]. CODE is Python that then runs. The kernel makes the calls fail (seccomp), and nothing of what
is tested knows.
"""

from __future__ import annotations

import ctypes
import json
import platform
import struct
import sys

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000
_NUMBER, _SECOND = 0, 24  # offsets in struct seccomp_data, the argument's low half
_CALLS = {
    "x86_64": {"ioctl": 16, "openat": 257, "clone": 56, "clone3": 435},
    "aarch64": {"ioctl": 29, "openat": 56, "clone": 220, "clone3": 435},
    "riscv64": {"ioctl": 29, "openat": 56, "clone": 220, "clone3": 435},
}


def _program(rules: list[tuple[str, int | None, int]]) -> bytes:
    numbers = _CALLS[platform.machine()]
    code = b""

    def add(operation: int, value: int, skip: int = 0) -> None:
        nonlocal code
        code += struct.pack("<HBBI", operation, 0, skip, value)

    for call, argument, errno in rules:
        add(_LOAD, _NUMBER)
        add(_EQUAL, numbers[call], 1 if argument is None else 3)
        if argument is not None:
            add(_LOAD, _SECOND)
            add(_EQUAL, argument & 0xFFFF_FFFF, 1)
        add(_RETURN, _ERRNO | errno)
    add(_RETURN, _ALLOW)
    return code


def deny(rules: list[tuple[str, int | None, int]]) -> None:
    """Make system calls of this process fail, from now on and for ever."""
    program = _program(rules)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("<HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, argument, pointer in (
        (_PR_SET_NO_NEW_PRIVS, 1, None),
        (_PR_SET_SECCOMP, _FILTER, ctypes.create_string_buffer(header, len(header))),
    ):
        if libc.prctl(option, ctypes.c_ulong(argument), pointer, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    RULES = [tuple(rule) for rule in json.loads(sys.argv[1])]
    exec(sys.argv[2])  # noqa: S102 - the test's own text
