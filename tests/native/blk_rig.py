# SPDX-License-Identifier: MIT
"""A disk on a slot, and requests to it."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from split_driver import FREE, Rig

from vdesktop_core._native import ffi, lib
from vdesktop_core.iothread import IoThread

IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = 0, 1, 2
UNTOUCHED = 0xEE
F_RO, F_FLUSH, F_CONFIG_WCE, F_MQ, F_DISCARD, F_WRITE_ZEROES = (1 << bit for bit in (5, 9, 11, 12, 13, 14))


class Disk:
    """A vd_blk over a native store, driven request by request.

    Memory of request i (one at a time by default): header, status and data, each
    in pages of its own from ``FREE`` on.
    """

    def __init__(self, store: Any, *, queues: int = 1, **options: Any) -> None:
        self.rig = Rig()
        self.store = store
        self.threads = [IoThread(self.rig.host.native, f"q{i}") for i in range(1, queues)]
        loops = [ffi.cast("struct vd_loop *", t.native) for t in (self.rig.thread, *self.threads)]
        values = {
            "queues": queues,
            "queue_size": 128,
            "workers": 4,
            "serial": b"serial-0123456789abc",
            **options,
        }
        failure = ffi.new("int *")
        self.blk = lib.vd_blk_new(
            ffi.cast("struct vd_host *", self.rig.host.native),
            ffi.cast("struct vd_mem *", self.rig.memory.native),
            b"disk",
            store,
            ffi.new("struct vd_blk_options *", values),
            ffi.new("struct vd_loop *[]", loops),
            failure,
        )
        assert self.blk != ffi.NULL, os.strerror(-failure[0])
        self.rig.attach(int(ffi.cast("uintptr_t", lib.vd_blk_device(self.blk))))
        self.n_queues = queues

    def start(self, features: int | None = None) -> None:
        self.rig.negotiate(features, n_queues=self.n_queues)

    def close(self) -> None:
        if self.blk is not None:
            self.rig.close()
            lib.vd_blk_free(self.blk)
            self.blk = None

    def free(self, *, store: bool = True) -> None:
        self.close()
        if store:
            lib.vd_blk_store_close(self.store)
        for thread in self.threads:
            thread.close()
        self.rig.free()

    @property
    def counters(self) -> Any:
        counters = ffi.new("struct vd_blk_counters *")
        lib.vd_blk_counters(self.blk, counters)
        return counters

    # Requests

    def place(self, i: int = 0) -> int:
        return FREE + i * (2 << 20)

    def prepare(self, kind: int, sector: int, data: bytes = b"", *, i: int = 0) -> int:
        """Write header, data and an untouched status byte. Returns the header's address."""
        at = self.place(i)
        self.rig.memory.write(at, struct.pack("<IIQ", kind, 0, sector))
        self.rig.memory.write(at + 0x800, bytes([UNTOUCHED]))
        if data:
            self.rig.memory.write(at + 0x1000, data)
        return at

    def status(self, i: int = 0) -> int:
        return self.rig.memory.read(self.place(i) + 0x800, 1)[0]

    def data(self, size: int, i: int = 0) -> bytes:
        return self.rig.memory.read(self.place(i) + 0x1000, size)

    def submit(
        self, kind: int, sector: int = 0, data: bytes = b"", *, into: int = 0, i: int = 0, index: int = 0
    ) -> None:
        """Kick a request in the common framing: header, data, status."""
        at = self.prepare(kind, sector, data, i=i)
        out = [(at, 16)] + ([(at + 0x1000, len(data))] if data else [])
        write = ([(at + 0x1000, into)] if into else []) + [(at + 0x800, 1)]
        self.rig.add(out, write, index=index)
        self.rig.kick(index)

    def request(self, kind: int, sector: int = 0, data: bytes = b"", *, into: int = 0, index: int = 0) -> int:
        """Do a request and return its status."""
        self.submit(kind, sector, data, into=into, index=index)
        _, written = self.rig.wait_used(index)
        assert written == into + 1
        return self.status()

    def read(self, sector: int, size: int) -> bytes:
        assert self.request(IN, sector, into=size) == OK
        return self.data(size)


def file_store(host: int, path: Path, *, read_only: bool = False, direct: bool = False) -> Any:
    mode = os.O_RDONLY if read_only else os.O_RDWR
    failure = ffi.new("int *")
    store = lib.vd_blk_file_open(
        ffi.cast("struct vd_host *", host),
        os.open(path, mode | os.O_CLOEXEC),
        os.open(path, mode | os.O_CLOEXEC | os.O_DIRECT) if direct else -1,
        4096,
        read_only,
        failure,
    )
    assert store != ffi.NULL, os.strerror(-failure[0])
    return store
