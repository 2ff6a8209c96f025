# SPDX-License-Identifier: MIT
"""Our device models in others' domains: written down, so that the next run ends what a killed process left.

Xen keeps a device model (an IOREQ server) as long as its domain, whatever becomes of its process. Whose it is
Xen does not tell: XenStore does, where guests can neither read nor write it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import struct

from vdesktop_core.errors import BackendError
from vdesktop_xen import marks
from vdesktop_xen._xen import ffi, lib
from vdesktop_xen.store import Store

log = logging.getLogger(__name__)

#: xenstore-paths(7): "tool" is for what runs in dom0. Below: ``DOMAIN-SERVER``, and the mark of the process
#: with the domain's handle: Xen gives numbers again.
ROOT = "/tool/vdesktop"
#: DOMID_FIRST_RESERVED and ioservid_t of Xen's public/xen.h and public/hvm/dm_op.h.
_DOMAINS, _SERVERS = 0x7FF0, 1 << 16
_GONE = (errno.ENOENT, errno.ESRCH)


def record(domain: int, server: int) -> str:
    """Write a server down, before it is asked for anything; return where.

    Raises:
        BackendError: xenstored is not there, or the domain is gone.
    """
    handle = _handle(domain)
    if handle is None:
        raise BackendError(f"domain {domain} is gone")
    path = f"{ROOT}/{domain}-{server}"
    with Store() as store:
        store.write({path: f"{marks.mine().hex()} {handle.hex()}"})
    return path


def forget(path: str) -> None:
    """Remove what :func:`record` wrote, before the server ends: its number is free then."""
    with contextlib.suppress(BackendError), Store() as store:
        store.delete(path)


def sweep() -> int:
    """End the servers of processes that were killed, and forget those of domains that are gone.

    Returns: how many were ended.
    """
    swept = 0
    with contextlib.suppress(BackendError), Store() as store:
        for name in store.list(ROOT):
            path = f"{ROOT}/{name}"
            try:
                domain, server = _numbers(name)
                mark, handle = map(bytes.fromhex, (store.read(path) or "").split())
                alive = not marks.abandoned(mark)
            except (ValueError, struct.error):
                continue  # nothing that this version wrote
            if _handle(domain) == handle:
                if alive:
                    continue
                result = lib.vx_server_end(domain, server)
                if result == 0:
                    swept += 1
                    log.warning("domain %d lost its devices: the process that served them was killed", domain)
                elif -result not in _GONE:
                    log.warning(
                        "domain %d has a device model that nobody serves, and it cannot be ended: %s",
                        *(domain, os.strerror(-result)),
                    )
                    continue
            store.delete(path)
    return swept


def _numbers(name: str) -> tuple[int, int]:
    domain, server = map(int, name.split("-"))
    if not (0 <= domain < _DOMAINS and 0 <= server < _SERVERS):
        raise ValueError(name)
    return domain, server


def _handle(domain: int) -> bytes | None:
    """Return what tells a domain from the next with its number, None where it is gone."""
    found, handle = ffi.new("uint32_t *"), ffi.new("uint8_t[16]")
    if lib.vx_domains(domain, 1, found, handle) != 1 or found[0] != domain:
        return None
    return bytes(handle)
