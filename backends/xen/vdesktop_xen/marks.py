# SPDX-License-Identifier: MIT
"""Domains carry a mark that says whose they are, so that the next run can clean up after one that was killed.

The mark is the domain's handle (UUID), which Xen keeps: it is there with or without XenStore.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import uuid
from pathlib import Path

from vdesktop_core.errors import BackendError

log = logging.getLogger(__name__)

#: A magic number, the PID's namespace, the PID, and when it started (clock ticks after boot, low 32 bits).
#: PIDs of another namespace mean nothing here: their domains are left alone.
_MARK = struct.Struct(">4sIII")
_MAGIC = b"VDSK"
_START_TIME = 19  # field 22 of proc(5)'s stat, after the name's parenthesis
_MOST_DOMAINS = 1024


def _namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino & 0xFFFF_FFFF


def _started(pid: int) -> int | None:
    """Return when a process started, None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[_START_TIME]) & 0xFFFF_FFFF


def mine() -> bytes:
    """Return the mark of this process' domains: 16 bytes."""
    pid = os.getpid()
    return _MARK.pack(_MAGIC, _namespace(), pid, _started(pid) or 0)


def abandoned(mark: bytes) -> bool:
    """Tell whether a domain's mark is ours, and its process is gone."""
    magic, namespace, pid, started = _MARK.unpack(mark)
    return bool(magic == _MAGIC and namespace == _namespace() and _started(pid) != started)


def vm_path(mark: bytes) -> str:
    """Return where XenStore keeps what outlives a domain's number."""
    return f"/vm/{uuid.UUID(bytes=mark)}"


def sweep() -> int:
    """Destroy the domains of processes that were killed, and forget them in XenStore; return their number."""
    from vdesktop_xen._xen import ffi, lib
    from vdesktop_xen.store import Store

    domains, marks = ffi.new("uint32_t[]", _MOST_DOMAINS), ffi.new("uint8_t[]", 16 * _MOST_DOMAINS)
    count = lib.vx_domains(1, _MOST_DOMAINS, domains, marks)
    swept = 0
    for index in range(count):
        mark = bytes(ffi.buffer(marks, 16 * _MOST_DOMAINS)[16 * index : 16 * index + 16])
        if not abandoned(mark):
            continue
        domain = int(domains[index])
        if lib.vx_destroy(domain) == 0:
            swept += 1
            log.warning("destroyed domain %d: the process that ran it was killed", domain)
        with contextlib.suppress(BackendError), Store() as store:
            store.delete(f"/local/domain/{domain}")
            store.delete(vm_path(mark))
    return swept
