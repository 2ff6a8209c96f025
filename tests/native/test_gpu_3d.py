# SPDX-License-Identifier: MIT
"""Where 3D plugs in: offered with a renderer only, called with what was checked, shown like any picture."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec
import pytest
from gpu_rig import (
    ALL,
    BAD_CONTEXT,
    BAD_PARAMETER,
    BAD_RESOURCE,
    CONTROL,
    FENCE,
    FREE,
    GET_CAPSET,
    GET_CAPSET_INFO,
    NO_MEMORY,
    OK,
    UNSPEC,
    Gpu,
    Slot,
    picture,
)
from painter import CAPSET, FILL, SIZE, VERSION, Painter

from vdesktop_core.devices.gpu.config import GpuConfig
from vdesktop_core.devices.gpu.device import GpuDevice
from vdesktop_core.devices.gpu.renderer import open_renderer
from vdesktop_core.errors import ConfigError, DeviceError
from vdesktop_core.testing import Interrupt, wait_until
from vdesktop_core.testing.driver_queue import Buffer

if TYPE_CHECKING:
    from collections.abc import Iterator

F_VIRGL, F_CONTEXT_INIT = 0, 4
(
    CTX_CREATE,
    CTX_DESTROY,
    CTX_ATTACH,
    CTX_DETACH,
    CREATE_3D,
    TO_HOST_3D,
    FROM_HOST_3D,
    SUBMIT,
) = range(0x200, 0x208)
OK_CAPSET_INFO, OK_CAPSET = 0x1102, 0x1103
RING_IDX = 2
#: A size whose picture is one page.
SIDE = 32


class Gpu3d(Gpu):
    """A gpu with a painter behind it."""

    def __init__(self, painter: Painter) -> None:
        Slot.__init__(self)
        self.painter = painter
        context = msgspec.structs.replace(self.context, plugins={"renderer": {"painter": painter}})
        self.gpu = GpuDevice(GpuConfig(), context)
        self.attach(self.gpu)

    def say(self, kind: int, body: bytes = b"", context: int = 0, flags: int = 0, fence: int = 0) -> int:
        """Send a command of a context's, and return the reply's type."""
        header = struct.pack("<IIQIB3x", kind, flags, fence, context, 0)
        return int(struct.unpack_from("<I", self.raw(header + body))[0])

    def context_create(self, context: int, capset: int = CAPSET, name: bytes = b"test") -> int:
        return self.say(CTX_CREATE, struct.pack("<II64s", len(name), capset, name), context)

    def create_3d(self, resource: int, width: int = SIDE, height: int = SIDE, wire: int = 2) -> int:
        body = struct.pack("<12I", resource, 2, wire, 2, width, height, 1, 1, 0, 0, 0, 0)
        return self.say(CREATE_3D, body)

    def send_fenced(self, fence: int) -> tuple[int, int]:
        """Send an empty SUBMIT_3D; returns the chain's id and where the reply comes to."""
        command = struct.pack("<IIQIB3x", SUBMIT, FENCE, fence, 1, 0) + bytes(8)
        at, reply = self.arena.allocate(len(command)), self.arena.allocate(64)
        self.memory.write(at, command)
        chain = self.driver.queues[CONTROL].add([Buffer(at, len(command)), Buffer(reply, 64, write=True)])
        self.driver.kick(CONTROL)
        return chain, reply

    def submit(self, context: int, commands: bytes, size: int | None = None) -> int:
        body = struct.pack("<II", len(commands) if size is None else size, 0) + commands
        return self.say(SUBMIT, body, context)


@pytest.fixture
def gpu() -> Iterator[Gpu3d]:
    gpu = Gpu3d(Painter())
    gpu.start(ALL | {F_VIRGL, F_CONTEXT_INIT})
    yield gpu
    gpu.free()
    assert gpu.painter.heard[-2:] == ["reset", "close"]


def test_gpu_without_a_renderer_offers_no_3d() -> None:
    gpu = Gpu()
    try:
        assert not gpu.driver.offered() & {F_VIRGL, F_CONTEXT_INIT}
        assert gpu.read(0x100 + 12, 4) == 0  # num_capsets
        gpu.start()
        for kind in (GET_CAPSET_INFO, GET_CAPSET, *range(0x200, 0x208)):
            assert gpu.ask(kind, bytes(96)) == UNSPEC
    finally:
        gpu.free()


def test_gpu_with_a_renderer_serves_2d_drivers_as_before() -> None:
    gpu = Gpu3d(Painter())
    try:
        assert {F_VIRGL, F_CONTEXT_INIT} <= gpu.driver.offered()
        gpu.start(ALL)
        assert gpu.context_create(1) == UNSPEC
        gpu.shown(1, 8, 8, picture(8, 8))
        assert gpu.painter.heard == ["reset"]  # of the driver's first step
    finally:
        gpu.free()


def test_gpu_renderer_without_contexts_by_capset_offers_virgl_alone() -> None:
    gpu = Gpu3d(Painter(context_init=False))
    try:
        assert gpu.driver.offered() & {F_VIRGL, F_CONTEXT_INIT} == {F_VIRGL}
        gpu.start(ALL | {F_VIRGL})
        assert gpu.context_create(1, capset=9) == OK  # the field has no meaning
        assert gpu.painter.contexts == {1: (0, "test")}
    finally:
        gpu.free()


def test_capsets_are_told(gpu: Gpu3d) -> None:
    assert gpu.read(0x100 + 12, 4) == 1  # num_capsets
    kind, info = gpu.command(GET_CAPSET_INFO, struct.pack("<II", 0, 0))
    assert (kind, struct.unpack_from("<III", info)) == (OK_CAPSET_INFO, (CAPSET, VERSION, SIZE))
    kind, data = gpu.command(GET_CAPSET, struct.pack("<II", CAPSET, 1))
    assert (kind, struct.unpack_from("<III", data)) == (OK_CAPSET, (CAPSET, 1, 0xC0FFEE))
    assert len(data) == SIZE
    assert gpu.ask(GET_CAPSET_INFO, struct.pack("<II", 1, 0)) == BAD_PARAMETER
    assert gpu.ask(GET_CAPSET, struct.pack("<II", CAPSET, VERSION + 1)) == BAD_PARAMETER
    assert gpu.ask(GET_CAPSET, struct.pack("<II", CAPSET + 1, 0)) == BAD_PARAMETER


def test_contexts_come_and_go(gpu: Gpu3d) -> None:
    assert gpu.context_create(5, name=b"a\nb") == OK
    assert gpu.painter.contexts == {5: (CAPSET, "a?b")}
    assert gpu.context_create(5) == BAD_CONTEXT
    assert gpu.context_create(0) == BAD_CONTEXT
    assert gpu.context_create(6, capset=CAPSET + 1) == BAD_PARAMETER
    assert gpu.say(CTX_CREATE, struct.pack("<II64s", 65, 0, b""), 6) == BAD_PARAMETER
    assert gpu.say(CTX_DESTROY, context=5) == OK
    assert gpu.say(CTX_DESTROY, context=5) == BAD_CONTEXT
    assert gpu.painter.contexts == {}


def test_contexts_without_bound_are_refused(gpu: Gpu3d) -> None:
    assert [gpu.context_create(1 + i) for i in range(257)] == [OK] * 256 + [NO_MEMORY]


def test_what_was_drawn_is_shown_and_its_flush_is_damage(gpu: Gpu3d) -> None:
    viewing = gpu.gpu.screen.scanouts[0].view()
    assert gpu.context_create(1) == OK
    assert gpu.create_3d(7) == OK
    assert gpu.say(CTX_ATTACH, struct.pack("<II", 7, 0), 1) == OK
    assert gpu.painter.attached == {(1, 7)}
    assert gpu.submit(1, FILL.pack(7, 0, 0, SIDE, SIDE, 0x112233)) == OK
    assert gpu.set_scanout(7, (0, 0, SIDE, SIDE)) == OK
    surface = viewing.take().surface
    assert surface is not None
    assert bytes(surface.view) == struct.pack("<I", 0x112233) * SIDE * SIDE

    assert gpu.submit(1, FILL.pack(7, 4, 5, 6, 7, 0xFF)) == OK
    assert gpu.flush(7, (4, 5, 6, 7)) == OK
    update = viewing.take()
    assert [(r.x, r.y, r.width, r.height) for r in update.damage] == [(4, 5, 6, 7)]
    at = 4 * (5 * SIDE + 4)
    assert bytes(surface.view[at : at + 4]) == struct.pack("<I", 0xFF)
    assert bytes(surface.view[at - 4 : at]) == struct.pack("<I", 0x112233)
    surface.close()
    assert update.surface is not None
    update.surface.close()

    assert gpu.unref(7) == OK
    assert viewing.take().surface is None
    assert gpu.painter.pictures == {}


def test_guest_memory_goes_both_ways(gpu: Gpu3d) -> None:
    data = picture(SIDE, SIDE)
    gpu.memory.write(FREE, data)
    assert gpu.create_3d(1) == OK
    pieces = [(FREE, len(data) // 2), (FREE + len(data) // 2, len(data) // 2)]
    assert gpu.attach_backing(1, pieces) == OK
    box = struct.pack("<6IQIIII", 0, 0, 0, SIDE, SIDE, 1, 0, 1, 0, 0, 0)
    assert gpu.say(TO_HOST_3D, box) == OK
    assert bytes(gpu.painter.pictures[1][2]) == data
    gpu.memory.write(FREE, bytes(len(data)))
    assert gpu.say(FROM_HOST_3D, box) == OK
    assert gpu.memory.read(FREE, len(data)) == data
    assert gpu.say(TO_HOST_3D, box, context=9) == BAD_CONTEXT
    assert gpu.say(TO_HOST_3D, struct.pack("<6IQIIII", *[0] * 3, 1, 1, 1, 0, 1, 0, 0, 0)) == BAD_PARAMETER
    assert gpu.transfer(1, (0, 0, SIDE, SIDE)) == UNSPEC  # 2D's is not for it
    assert gpu.detach(1) == OK
    assert gpu.painter.backings == {1: []}


def test_bad_3d_commands_are_refused(gpu: Gpu3d) -> None:
    assert gpu.submit(1, b"") == BAD_CONTEXT
    assert gpu.context_create(1) == OK
    assert gpu.submit(1, b"x") == BAD_PARAMETER  # the renderer's word
    assert gpu.submit(1, b"abcd", size=100) == BAD_PARAMETER
    assert gpu.submit(1, b"abcd", size=0xFFFF_FFFF) == BAD_PARAMETER
    assert gpu.create_3d(1, width=0) == BAD_PARAMETER
    assert gpu.create_3d(0) == BAD_RESOURCE
    assert gpu.create_3d(1, width=1 << 14, height=1 << 14) == NO_MEMORY
    assert gpu.create_3d(1) == OK
    assert gpu.create_3d(1) == BAD_RESOURCE
    assert gpu.say(CTX_ATTACH, struct.pack("<II", 2, 0), 1) == BAD_RESOURCE
    assert gpu.say(CTX_ATTACH, struct.pack("<II", 1, 0), 2) == BAD_CONTEXT
    assert gpu.create_3d(2, wire=9999) == OK  # a depth buffer, say
    assert gpu.set_scanout(2, (0, 0, SIDE, SIDE)) == BAD_PARAMETER
    assert not gpu.needs_reset_now()


def test_fence_of_a_renderer_that_is_done_is_answered_at_once(gpu: Gpu3d) -> None:
    assert gpu.context_create(1) == OK
    header = struct.pack("<IIQIB3x", SUBMIT, FENCE | RING_IDX, 0x99, 1, 3)
    reply = gpu.raw(header + struct.pack("<II", 0, 0))
    assert struct.unpack_from("<IIQIB", reply) == (OK, FENCE | RING_IDX, 0x99, 1, 3)
    assert gpu.painter.fences == [(1, 3, 0x99)]


def test_fences_that_are_pending_are_answered_when_they_are_done_in_any_order(gpu: Gpu3d) -> None:
    assert gpu.context_create(1) == OK
    gpu.painter.pending = True
    chains = {fence: gpu.send_fenced(fence) for fence in (1, 2, 3)}
    assert wait_until(lambda: len(gpu.painter.fences) == 3, 30)
    assert gpu.driver.queues[CONTROL].take_used() == []
    gpu.painter.finish(1, 0, 99)  # nobody's
    gpu.painter.finish(1, 0, 2)
    gpu.painter.finish(1, 0, 1)
    assert {chain for chain, _ in gpu.driver.wait_used(CONTROL, 2)} == {chains[1][0], chains[2][0]}
    gpu.painter.finish(1, 0, 3)
    assert gpu.driver.wait_used(CONTROL) == [(chains[3][0], 24)]
    assert struct.unpack("<IIQ", gpu.memory.read(chains[3][1], 16)) == (OK, FENCE, 3)


def test_reset_with_fences_pending_drops_them_and_everything(gpu: Gpu3d) -> None:
    assert gpu.context_create(1) == OK
    assert gpu.create_3d(1) == OK
    assert gpu.set_scanout(1, (0, 0, SIDE, SIDE)) == OK
    gpu.painter.pending = True
    gpu.send_fenced(1)
    assert wait_until(lambda: bool(gpu.painter.fences), 30)
    gpu.write(0x70, 4, 0)
    assert wait_until(lambda: gpu.status == 0, 30)
    assert gpu.painter.contexts == {}
    assert gpu.painter.pictures == {}
    gpu.painter.finish(1, 0, 1)
    gpu.painter.pending = False
    gpu.start(ALL | {F_VIRGL, F_CONTEXT_INIT})
    assert gpu.context_create(1) == OK
    assert gpu.counter("memory_bytes") == 0
    assert not gpu.read(0x60, 4) & Interrupt.CONFIG


class Absent:
    name = "absent"

    def open(self) -> Painter:
        raise DeviceError("no graphics card")


def test_renderer_auto_takes_the_first_that_can_and_none_where_none_can() -> None:
    painter = Painter()
    assert open_renderer("auto", {"absent": Absent(), "painter": painter}) is painter
    assert open_renderer("auto", {"absent": Absent()}) is None
    assert open_renderer("auto", {}) is None
    assert open_renderer("none", {"painter": painter}) is None


def test_renderer_by_name_that_cannot_or_is_not_there_is_an_error() -> None:
    with pytest.raises(DeviceError, match="no graphics card"):
        open_renderer("absent", {"absent": Absent()})
    with pytest.raises(ConfigError, match="'virgl' is installed"):
        open_renderer("virgl", {"painter": Painter()})
