# SPDX-License-Identifier: MIT
"""A disk on a slot, and requests to it."""

from __future__ import annotations

import errno
import os
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from split_driver import FREE, Rig

from vdesktop_core._native import ffi, lib
from vdesktop_core.host import Host
from vdesktop_core.iothread import IoThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = 0, 1, 2
UNTOUCHED = 0xEE
SERIAL = b"serial-0123456789abc"
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


@contextmanager
def file_disk(path: Path, *, read_only: bool = False, direct: bool = False, **options: Any) -> Iterator[Disk]:
    """A disk over a file; not started."""
    host = Host()
    disk = Disk(file_store(host.native, path, read_only=read_only, direct=direct), **options)
    try:
        yield disk
    finally:
        disk.free()
        host.close()


class StubStore:
    """A store in Python, which records what is asked of it and fails or waits on demand.

    ``volatile`` is what was written, ``stable`` what a flush has made durable.
    """

    def __init__(self, size: int = 1 << 20) -> None:
        self.volatile = bytearray(size)
        self.stable = bytearray(size)
        self.calls: list[tuple[Any, ...]] = []
        #: Called with the operation and its offset, on the calling native thread; may wait.
        self.before: Callable[[str, int], int] = lambda _op, _offset: 0
        self._keep = [
            ffi.callback(
                "int(struct vd_blk_store *, struct vd_iov *, uint32_t, uint64_t, uint32_t)", self._readv
            ),
            ffi.callback(
                "int(struct vd_blk_store *, struct vd_iov *, uint32_t, uint64_t, uint32_t)", self._writev
            ),
            ffi.callback("int(struct vd_blk_store *, uint32_t)", self._flush),
            ffi.callback("int(struct vd_blk_store *, uint64_t, uint64_t)", self._discard),
            ffi.callback("int(struct vd_blk_store *, uint64_t, uint64_t, bool)", self._write_zeroes),
            ffi.callback("void(struct vd_blk_store *)", lambda _store: self.calls.append(("close",))),
        ]
        names = ("readv", "writev", "flush", "discard", "write_zeroes", "close")
        values = dict(zip(names, self._keep, strict=True))
        self.native = ffi.new("struct vd_blk_store *", {"size": size, "block_size": 512, **values})

    def _readv(self, _store: Any, iov: Any, n: int, offset: int, flags: int) -> int:
        if flags & lib.VD_BLK_NOWAIT:
            return -errno.EAGAIN
        if error := self.before("read", offset):
            return error
        self.calls.append(("read", offset))
        for i in range(n):
            ffi.memmove(iov[i].base, bytes(self.volatile[offset : offset + iov[i].len]), iov[i].len)
            offset += iov[i].len
        return 0

    def _writev(self, _store: Any, iov: Any, n: int, offset: int, flags: int) -> int:
        if flags & lib.VD_BLK_NOWAIT:
            return -errno.EAGAIN
        if error := self.before("write", offset):
            return error
        self.calls.append(("write", offset))
        for i in range(n):
            self.volatile[offset : offset + iov[i].len] = ffi.buffer(iov[i].base, iov[i].len)[:]
            offset += iov[i].len
        return 0

    def _flush(self, _store: Any, flags: int) -> int:
        if flags & lib.VD_BLK_NOWAIT:
            return -errno.EAGAIN
        snapshot = bytes(self.volatile)
        if error := self.before("flush", 0):
            return error
        self.stable[:] = snapshot
        self.calls.append(("flush",))
        return 0

    def _discard(self, _store: Any, offset: int, length: int) -> int:
        if error := self.before("discard", offset):
            return error
        self.calls.append(("discard", offset, length))
        return 0

    def _write_zeroes(self, _store: Any, offset: int, length: int, unmap: bool) -> int:
        if error := self.before("write_zeroes", offset):
            return error
        self.calls.append(("write_zeroes", offset, length, bool(unmap)))
        self.volatile[offset : offset + length] = bytes(length)
        return 0


@contextmanager
def stub_disk(store: StubStore, **options: Any) -> Iterator[Disk]:
    """A disk over a stub; not started."""
    disk = Disk(store.native, **options)
    try:
        yield disk
    finally:
        disk.free(store=False)


class Gate:
    """Makes chosen operations of a stub wait until they are let through."""

    def __init__(self, store: StubStore, *ops: str) -> None:
        self.open = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.arrived = 0
        self._ops = ops
        self._lock = threading.Lock()
        store.before = self._before

    def _before(self, op: str, _offset: int) -> int:
        if op in self._ops:
            with self._lock:
                self.arrived += 1
            self.open.wait(60)
        return 0


@contextmanager
def opened(gate: Gate) -> Iterator[None]:
    """Let everything through at the end, whatever happens: no test leaves a worker waiting."""
    try:
        yield
    finally:
        gate.open.set()
