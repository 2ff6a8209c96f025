# SPDX-License-Identifier: MIT
"""A gpu on a slot, driven by the public mock driver command by command."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.base import DeviceContext
from vdesktop_core.devices.gpu.config import GpuConfig
from vdesktop_core.devices.gpu.device import GpuDevice
from vdesktop_core.host import Host
from vdesktop_core.hypervisor import Arch
from vdesktop_core.iothread import IoThread
from vdesktop_core.memory import GuestMemory, MemoryRegion
from vdesktop_core.testing import Arena, Feature, MockDriver, Status, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vdesktop_core.devices.base import Device

RAM = 0x4000_0000
RAM_SIZE = 64 << 20
#: From here on memory is the tests' own.
FREE = RAM + (16 << 20)

F_EDID, F_UUID, F_BLOB = 1, 2, 3
ALL = frozenset({Feature.INDIRECT_DESC, Feature.RING_RESET, F_EDID, F_UUID, F_BLOB})
CONTROL, CURSOR = 0, 1
HEADER = 24

GET_DISPLAY_INFO, CREATE_2D, UNREF, SET_SCANOUT, FLUSH, TRANSFER, ATTACH, DETACH = range(0x100, 0x108)
GET_CAPSET_INFO, GET_CAPSET, GET_EDID, ASSIGN_UUID, CREATE_BLOB, SET_SCANOUT_BLOB = range(0x108, 0x10E)
UPDATE_CURSOR, MOVE_CURSOR = 0x300, 0x301
OK, OK_DISPLAY_INFO = 0x1100, 0x1101
OK_EDID, OK_UUID = 0x1104, 0x1105
UNSPEC, NO_MEMORY, BAD_SCANOUT, BAD_RESOURCE, BAD_CONTEXT, BAD_PARAMETER = range(0x1200, 0x1206)
FENCE = 1
BGRX, BGRA = 2, 1


class Pool(Arena):
    """An arena whose buffers, but not the queues before them, are taken back when all requests are done."""

    def mark(self) -> None:
        self._mark = self._next

    def rewind(self) -> None:
        self._next = self._mark

    def left(self) -> int:
        return self.end - self._next


class Slot:
    """A device on an mmio slot: registers for the mock driver."""

    def __init__(self) -> None:
        self.host = Host()
        self.memory = GuestMemory(self.host.native)
        self.memory.add(RAM, MemoryRegion("ram", RAM_SIZE))
        self.thread = IoThread(self.host.native, "test-io")
        self.mmio = lib.vd_mmio_new(ffi.cast("struct vd_host *", self.host.native), 1, ffi.NULL, -1)
        self.io = lib.vd_mmio_io(self.mmio)
        self.arena = Pool(self.memory, RAM, FREE - RAM)
        self.driver = MockDriver(self, self.arena)
        self.context = DeviceContext(
            name="device",
            machine="test",
            arch=Arch.AARCH64,
            memory=self.memory,
            host=self.host.native,
            loop=self.thread.native,
            call_soon=lambda _: None,
            plugins={},
        )

    def attach(self, device: Device) -> None:
        self.device = device
        assert lib.vd_mmio_attach(self.mmio, ffi.cast("struct vd_device *", device.native)) == 0

    def read(self, offset: int, width: int) -> int:
        return int(self.io.read(self.io.opaque, offset, width))

    def write(self, offset: int, width: int, value: int) -> None:
        self.io.write(self.io.opaque, offset, width, value)

    @property
    def status(self) -> int:
        return self.read(0x70, 4)

    def needs_reset_now(self) -> bool:
        return bool(self.status & Status.NEEDS_RESET)

    def needs_reset(self) -> bool:
        return wait_until(lambda: bool(self.status & Status.NEEDS_RESET), 10)

    def free(self, *, keep_host: bool = False) -> None:
        lib.vd_mmio_detach(self.mmio)
        self.device.close()
        lib.vd_mmio_free(self.mmio)
        self.thread.close()
        self.memory.close()
        if not keep_host:
            self.host.close()


class Gpu(Slot):
    """A gpu whose driver speaks in commands."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.gpu = GpuDevice(GpuConfig(**config), self.context)
        self.attach(self.gpu)

    def start(self, features: Iterable[int] = ALL) -> None:
        self.arena.reset()
        self.driver.start(set(features))
        self.arena.mark()

    def command(self, kind: int, body: bytes = b"", *, room: int = 2048, flags: int = 0) -> tuple[int, bytes]:
        """Send a command; returns the reply's type and what follows its header."""
        reply = self.raw(struct.pack("<IIQIB3x", kind, flags, 0, 0, 0) + body, room)
        return struct.unpack_from("<I", reply)[0], reply[HEADER:]

    def raw(self, command: bytes, room: int = 2048, queue: int = CONTROL) -> bytes:
        if self.arena.left() < 1 << 20:
            self.arena.rewind()
        return self.driver.request(queue, [command], [room] if room else [])

    def ask(self, kind: int, body: bytes = b"") -> int:
        return self.command(kind, body)[0]

    # Commands

    def create(self, resource: int, width: int, height: int, wire: int = BGRX) -> int:
        return self.ask(CREATE_2D, struct.pack("<IIII", resource, wire, width, height))

    def attach_backing(self, resource: int, entries: list[tuple[int, int]], count: int | None = None) -> int:
        body = struct.pack("<II", resource, len(entries) if count is None else count)
        return self.ask(ATTACH, body + b"".join(struct.pack("<QII", at, size, 0) for at, size in entries))

    def detach(self, resource: int) -> int:
        return self.ask(DETACH, struct.pack("<II", resource, 0))

    def unref(self, resource: int) -> int:
        return self.ask(UNREF, struct.pack("<II", resource, 0))

    def transfer(self, resource: int, rect: tuple[int, int, int, int], offset: int = 0) -> int:
        return self.ask(TRANSFER, struct.pack("<4IQII", *rect, offset, resource, 0))

    def set_scanout(self, resource: int, rect: tuple[int, int, int, int], scanout: int = 0) -> int:
        return self.ask(SET_SCANOUT, struct.pack("<4III", *rect, scanout, resource))

    def flush(self, resource: int, rect: tuple[int, int, int, int]) -> int:
        return self.ask(FLUSH, struct.pack("<4III", *rect, resource, 0))

    def create_blob(self, resource: int, size: int, entries: list[tuple[int, int]], memory: int = 1) -> int:
        body = struct.pack("<IIIIQQ", resource, memory, 0, len(entries), 0, size)
        return self.ask(CREATE_BLOB, body + b"".join(struct.pack("<QII", at, n, 0) for at, n in entries))

    def set_scanout_blob(
        self,
        resource: int,
        rect: tuple[int, int, int, int],
        size: tuple[int, int],
        *,
        stride: int | None = None,
        offset: int = 0,
        scanout: int = 0,
        wire: int = BGRX,
    ) -> int:
        stride = size[0] * 4 if stride is None else stride
        body = struct.pack("<4IIIIIII", *rect, scanout, resource, *size, wire, 0)
        return self.ask(SET_SCANOUT_BLOB, body + struct.pack("<4I4I", stride, 0, 0, 0, offset, 0, 0, 0))

    def cursor(
        self,
        kind: int,
        resource: int,
        at: tuple[int, int] = (0, 0),
        hot: tuple[int, int] = (0, 0),
        scanout: int = 0,
    ) -> None:
        """Linux gives cursor commands no room for a reply."""
        header = struct.pack("<IIQIB3x", kind, 0, 0, 0, 0)
        body = struct.pack("<IiiIIIII", scanout, *at, 0, resource, *hot, 0)
        assert self.raw(header + body, room=0, queue=CURSOR) == b""

    def shown(self, resource: int, width: int, height: int, data: bytes | None = None) -> None:
        """A resource with backing at FREE, on the first scanout."""
        if data is not None:
            self.memory.write(FREE, data)
        whole = (0, 0, width, height)
        assert self.create(resource, width, height) == OK
        assert self.attach_backing(resource, [(FREE, width * height * 4)]) == OK
        assert self.transfer(resource, whole) == OK
        assert self.set_scanout(resource, whole) == OK

    def counter(self, name: str) -> int:
        return self.gpu.counters()[name]


def picture(width: int, height: int, seed: int = 0) -> bytes:
    """Pixels that all differ from their neighbours."""
    return b"".join(
        struct.pack("<I", (x * 7 + y * 131 + seed * 65537) & 0xFFFFFF)
        for y in range(height)
        for x in range(width)
    )
