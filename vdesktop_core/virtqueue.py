# SPDX-License-Identifier: MIT
"""Virtqueues for devices in Python: batches of chains out of the C rings, and back into them.

A handler looks like this::

    for chain in queue.drain():
        request = chain.read()
        queue.complete(chain, chain.write(answer(request)))

Chains may be completed in any order, later, and from any thread. After the
driver has reset the device they are *stale*: reading or writing one raises
:class:`StaleChainError`, completing one does nothing.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import VdesktopError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Chains fetched by one call into C.
BATCH = 64


class StaleChainError(VdesktopError):
    """The driver reset the device or the queue while the chain was in use."""


class Chain:
    """One request: bytes the device may read, then bytes it may write.

    Attributes:
        readable: length of the device-readable part in bytes.
        writable: length of the device-writable part in bytes.
    """

    __slots__ = ("_batch", "readable", "token", "writable")

    def __init__(self, batch: Any, token: int, readable: int, writable: int) -> None:
        self._batch = batch
        self.token = token
        self.readable = readable
        self.writable = writable

    def read(self, size: int | None = None, offset: int = 0) -> bytes:
        """Copy up to ``size`` bytes (default: all) of the readable part out, from ``offset``.

        Shorter than ``size`` only at the end of the part.

        Raises:
            StaleChainError: there was a reset.
            ValueError: a negative size or offset.
        """
        if offset < 0 or (size is not None and size < 0):
            raise ValueError(f"chain.read: size {size} and offset {offset} must not be negative")
        rest = max(self.readable - offset, 0)
        size = rest if size is None else min(size, rest)
        if not size:
            return b""
        data = ffi.new("char[]", size)
        done = lib.vd_batch_read(self._batch, self.token, offset, data, size)
        if done < 0:
            raise StaleChainError("the driver reset the queue of this chain; drop the request")
        return bytes(ffi.buffer(data, done))

    def write(self, data: bytes | bytearray | memoryview, offset: int = 0) -> int:
        """Copy bytes into the writable part, from ``offset``; what does not fit is left out.

        Returns:
            How far the part is written now, that is ``offset`` plus the bytes
            copied: what :meth:`Queue.complete` wants when the part is filled in order.

        Raises:
            StaleChainError: there was a reset.
            ValueError: a negative offset.
        """
        if offset < 0:
            raise ValueError(f"chain.write: offset {offset} must not be negative")
        size = min(len(data), max(self.writable - offset, 0))
        if not size:
            return min(offset, self.writable)
        done = lib.vd_batch_write(self._batch, self.token, offset, ffi.from_buffer(data), size)
        if done < 0:
            raise StaleChainError("the driver reset the queue of this chain; drop the request")
        return offset + int(done)


class Queue:
    """One virtqueue of a :class:`~vdesktop_core.devices.python.PythonDevice`.

    Attributes:
        index: its number.
        name: what the device class calls it.
    """

    def __init__(self, batch: Any, index: int, name: str) -> None:
        self.index = index
        self.name = name
        self._batch = batch
        self._chains = ffi.new("struct vd_batch_chain[]", BATCH)
        self._done: list[tuple[int, int]] = []
        self._lock = threading.Lock()
        self._server: int | None = None  # the thread that is inside of serve()

    def drain(self) -> Iterator[Chain]:
        """Yield the chains that are waiting, until there are none.

        The driver will kick again for the next one. Completions made meanwhile on
        this thread are published batch by batch. Use it on the device's thread only.
        """
        batch = self._batch
        while True:
            n = lib.vd_batch_drain(batch, self.index, self._chains, BATCH)
            if not n:
                return
            for raw in ffi.unpack(self._chains, n):
                yield Chain(batch, raw.token, raw.read_len, raw.write_len)
            self.flush()

    def complete(self, chain: Chain, written: int = 0) -> None:
        """Give a chain back to the driver.

        On the device's thread, completions are collected and published with one
        interrupt decision, at the end of a batch or of the handler; on any other
        thread a completion is published at once.

        Args:
            chain: not completed before.
            written: how many bytes of the writable part, from its start, are valid.
        """
        written = min(max(written, 0), chain.writable)
        if self._server == threading.get_ident():
            self._done.append((chain.token, written))
        else:
            self._publish([(chain.token, written)])

    def flush(self) -> None:
        """Publish the completions collected so far. Only on the device's thread."""
        if self._done:
            done, self._done = self._done, []
            self._publish(done)

    def _publish(self, done: list[tuple[int, int]]) -> None:
        raw = ffi.new("struct vd_batch_done[]", done)
        lib.vd_batch_complete(self._batch, self.index, raw, len(done))

    def enter(self) -> None:
        """Collect completions made on this thread until :meth:`leave`."""
        self._server = threading.get_ident()

    def leave(self) -> None:
        """Publish what was collected."""
        self._server = None
        self.flush()
