# SPDX-License-Identifier: MIT
"""How messages of the C core reach logging."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from vdesktop_core._native import ffi

if TYPE_CHECKING:
    import pytest

    from vdesktop_core.host import Host


def log(host: Host, message: bytes, component: bytes = b"disk0") -> None:
    raw = ffi.cast("struct vd_host *", host.native)
    raw.log(raw.opaque, logging.WARNING, component, message)


def test_log_reaches_the_logger_of_its_component(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    log(host, b"one")
    log(host, b"two")
    assert host.drain_log() == 2
    assert caplog.record_tuples == [
        ("vdesktop.disk0", logging.WARNING, "one"),
        ("vdesktop.disk0", logging.WARNING, "two"),
    ]


def test_log_too_long_is_cut(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    log(host, b"%s" * 1000, b"n" * 100)
    host.drain_log()
    (record,) = caplog.records
    assert record.name == "vdesktop." + "n" * 31
    assert record.getMessage() == ("%s" * 1000)[:219]


def test_log_nobody_reads_is_dropped_and_counted(host: Host) -> None:
    for _ in range(1000):
        log(host, b"flood")
    delivered = host.drain_log()
    assert delivered > 0
    assert delivered + host.dropped == 1000


def test_alloc_is_zeroed_and_aligned(host: Host) -> None:
    raw = ffi.cast("struct vd_host *", host.native)
    p = raw.alloc(raw.opaque, 100)
    assert int(ffi.cast("uintptr_t", p)) % 64 == 0
    assert bytes(ffi.buffer(p, 100)) == bytes(100)
    raw.free(raw.opaque, p)
    assert raw.alloc(raw.opaque, (1 << 64) - 1) == ffi.NULL
