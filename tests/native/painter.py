# SPDX-License-Identifier: MIT
"""A renderer for tests: its only drawing command fills a rectangle of a resource with a colour.

It implements every function of ``vdesktop/gpu_renderer.h``, in Python through cffi's callbacks: slow, and
complete.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from vdesktop_core._native import ffi

#: A capset of its own: id, version, size.
CAPSET, VERSION, SIZE = 77, 2, 16
#: resource, x, y, width, height, colour
FILL = struct.Struct("<6I")


class Painter:
    """Implements :class:`vdesktop_core.devices.gpu.renderer.GpuRenderer`, and what it opens.

    Attributes:
        heard: names of the functions that were called, in order.
        pending: say of fences that they are not done yet.
        fences: those that were asked for: context, ring, fence.
    """

    name = "painter"

    def __init__(self, *, context_init: bool = True) -> None:
        self.heard: list[str] = []
        self.contexts: dict[int, tuple[int, str]] = {}
        self.pictures: dict[int, tuple[int, int, bytearray]] = {}
        self.backings: dict[int, list[tuple[int, int]]] = {}
        self.attached: set[tuple[int, int]] = set()
        self.fences: list[tuple[int, int, int]] = []
        self.pending = False
        self._keep: list[Any] = []
        raw = ffi.new("struct vd_gpu_renderer *")
        raw.n_capsets = 1
        raw.capsets[0].id, raw.capsets[0].max_version, raw.capsets[0].max_size = CAPSET, VERSION, SIZE
        raw.context_init = context_init
        for field, kind in ffi.typeof("struct vd_gpu_renderer").fields:
            if kind.type.kind == "function":
                error = None if kind.type.result.kind == "void" else -errno.EIO
                callback = ffi.callback(kind.type, self._traced(field), error=error)
                self._keep.append(callback)
                setattr(raw, field, callback)
        self._raw = raw

    def open(self) -> Painter:
        return self

    @property
    def native(self) -> int:
        return int(ffi.cast("uintptr_t", self._raw))

    def connect(self, gpu: int, fence_done: int) -> None:
        self._gpu = ffi.cast("struct vd_gpu *", gpu)
        self._done = ffi.cast("void(*)(struct vd_gpu *, uint32_t, uint8_t, uint64_t)", fence_done)

    def finish(self, context: int, ring: int, fence: int) -> None:
        self._done(self._gpu, context, ring, fence)

    def close(self) -> None:
        self.heard.append("close")

    def _traced(self, name: str) -> Any:
        function = getattr(self, f"_{name}")

        def call(_opaque: Any, *arguments: Any) -> Any:
            self.heard.append(name)
            return function(*arguments)

        return call

    def _capset(self, capset: int, version: int, data: Any, size: int) -> int:
        ffi.buffer(data, size)[:] = struct.pack("<III4x", capset, version, 0xC0FFEE)
        return 0

    def _context_create(self, context: int, capset: int, name: Any) -> int:
        self.contexts[context] = (capset, ffi.string(name).decode())
        return 0

    def _context_destroy(self, context: int) -> None:
        del self.contexts[context]

    def _resource_create(self, wanted: Any) -> int:
        if wanted.width * wanted.height > 1 << 20:
            return -errno.ENOMEM
        size = 4 * wanted.width * wanted.height
        self.pictures[wanted.resource] = (wanted.width, wanted.height, bytearray(size))
        return 0

    def _resource_destroy(self, resource: int) -> None:
        del self.pictures[resource]

    def _context_attach(self, context: int, resource: int, attached: bool) -> int:
        (self.attached.add if attached else self.attached.discard)((context, resource))
        return 0

    def _backing(self, resource: int, iov: Any, n: int) -> int:
        self.backings[resource] = [(int(ffi.cast("uintptr_t", iov[i].base)), iov[i].len) for i in range(n)]
        return 0

    def _transfer(self, _context: int, transfer: Any, to_host: bool) -> int:
        width, height, data = self.pictures[transfer.resource]
        if (transfer.width, transfer.height) != (width, height):
            return -errno.EINVAL
        at = 0
        for address, size in self.backings.get(transfer.resource, []):
            memory = ffi.buffer(ffi.cast("char *", address), size)
            if to_host:
                data[at : at + size] = memory[:]
            else:
                memory[:] = bytes(data[at : at + size])
            at += size
        return 0

    def _submit(self, _context: int, commands: Any, size: int) -> int:
        if size % FILL.size:
            return -errno.EINVAL
        for at in range(0, size, FILL.size):
            resource, x, y, width, height, colour = FILL.unpack_from(ffi.buffer(commands, size), at)
            if resource not in self.pictures:
                return -errno.EINVAL
            stride, _, data = self.pictures[resource]
            for row in range(y, y + height):
                start = 4 * (row * stride + x)
                data[start : start + 4 * width] = struct.pack("<I", colour) * width
        return 0

    def _fence(self, context: int, ring: int, fence: int) -> int:
        self.fences.append((context, ring, fence))
        return int(self.pending)

    def _read(self, resource: int, part: Any, pixels: Any, stride: int) -> int:
        width, _, data = self.pictures[resource]
        for row in range(part.height):
            start = 4 * ((part.y + row) * width + part.x)
            line = bytes(data[start : start + 4 * part.width])
            ffi.memmove(ffi.cast("char *", pixels) + row * stride, line, len(line))
        return 0

    def _reset(self) -> None:
        self.contexts.clear()
        self.attached.clear()
        self.fences.clear()
