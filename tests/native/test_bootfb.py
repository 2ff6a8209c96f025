# SPDX-License-Identifier: MIT
"""The boot framebuffer: what a guest draws is seen, it gives way to a driver's picture, and comes back."""

from __future__ import annotations

import os
import random
import select
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from gpu_rig import OK, Gpu, picture

from vdesktop_core._native import ffi, lib
from vdesktop_core.arch.boot import FramebufferLayout
from vdesktop_core.display.bootfb import BootFramebuffer
from vdesktop_core.display.screen import News
from vdesktop_core.memory import GuestMemory, HypervisorRegion, MemoryRegion
from vdesktop_core.testing import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.display.native import NativeViewing
    from vdesktop_core.display.screen import Rect
    from vdesktop_core.host import Host

BASE = 0x1000_0000
#: Rows end in padding, and a page is part of two rows.
WIDTH, HEIGHT, STRIDE = 150, 100, 640
LAYOUT = FramebufferLayout(BASE, WIDTH, HEIGHT, STRIDE)


class Backend:
    """A virtual machine's memory: the host's, with a log or not, or one that no other process can map."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.written: set[int] = set()
        self._taker = ffi.callback("int(void *, uint64_t, uint64_t, uint64_t *)", self._take)
        self._log = ffi.new("struct vd_dirty *", {"take": self._taker, "opaque": ffi.NULL})

    def allocate_memory(self, gpa: int, name: str, size: int) -> MemoryRegion:
        assert gpa == BASE
        self.region = MemoryRegion(name, size)
        if self.kind != "unshared":
            return self.region
        return HypervisorRegion(name, size, self.region.address, lambda: None)

    def dirty_hook(self) -> int:
        return int(ffi.cast("uintptr_t", self._log)) if self.kind == "log" else 0

    def _take(self, _opaque: Any, gpa: int, size: int, bitmap: Any) -> int:
        assert (gpa, size) == (BASE, self.region.size)
        pages, self.written = self.written, set()
        for page in pages:
            bitmap[page // 64] |= 1 << page % 64
        return 0


class Guest:
    """Draws on the framebuffer, as a guest's CPU does."""

    def __init__(self, host: Host, memory: GuestMemory, kind: str) -> None:
        self.backend = Backend(kind)
        vm: Any = self.backend
        self.framebuffer = BootFramebuffer(host.native, LAYOUT, memory, vm)

    def draw(self, x: int, y: int, colour: bytes) -> None:
        at = y * STRIDE + 4 * x
        self.backend.region.view[at : at + len(colour)] = colour
        self.backend.written |= {page // 4096 for page in range(at, at + len(colour))}


@pytest.fixture(params=["shared", "log", "unshared"])
def guest(request: pytest.FixtureRequest, host: Host) -> Iterator[Guest]:
    with GuestMemory(host.native) as memory:
        guest = Guest(host, memory, request.param)
        yield guest
        guest.framebuffer.close()
        if request.param == "unshared":
            guest.backend.region.close()


@pytest.fixture
def viewing(guest: Guest) -> NativeViewing:
    screen = guest.framebuffer.screen
    assert screen is not None
    viewing = screen.scanouts[0].view()
    look(viewing)
    return viewing


def look(viewing: NativeViewing) -> tuple[News, tuple[Rect, ...], bytes]:
    """What is new, and the picture."""
    update = viewing.take()
    assert update.surface is not None
    surface = update.surface
    assert (surface.width, surface.height) == (WIDTH, HEIGHT)
    data = b"".join(
        bytes(surface.view[at : at + 4 * WIDTH]) for at in range(0, HEIGHT * surface.stride, surface.stride)
    )
    surface.close()
    return update.news, update.damage, data


def hears(viewing: NativeViewing, seconds: float = 30) -> bool:
    return bool(select.select([viewing], [], [], seconds)[0])


def covered(damage: tuple[Rect, ...], x: int, y: int) -> bool:
    return any(r.x <= x < r.x + r.width and r.y <= y < r.y + r.height for r in damage)


def test_bootfb_shows_what_was_drawn_before_anybody_looked(guest: Guest) -> None:
    guest.draw(3, 4, b"\x11\x22\x33\0")
    screen = guest.framebuffer.screen
    assert screen is not None
    viewing = screen.scanouts[0].view()
    news, damage, _ = look(viewing)
    assert News.SURFACE in news
    assert [(r.x, r.y, r.width, r.height) for r in damage] == [(0, 0, WIDTH, HEIGHT)]

    def seen() -> bool:
        return look(viewing)[2][4 * (4 * WIDTH + 3) :][:3] == b"\x11\x22\x33"

    assert wait_until(seen, 30)


def test_bootfb_who_begins_to_look_sees_what_is_there_now(guest: Guest) -> None:
    screen = guest.framebuffer.screen
    assert screen is not None
    for colour in (b"\x11\x22\x33", b"\x44\x55\x66"):
        guest.draw(3, 4, colour + b"\0")
        viewing = screen.scanouts[0].view()
        assert look(viewing)[2][4 * (4 * WIDTH + 3) :][:3] == colour
        viewing.close()


def test_bootfb_random_drawing_every_change_is_damage_and_is_seen(
    guest: Guest, viewing: NativeViewing
) -> None:
    chance = random.Random(7)
    while hears(viewing, 0.3):  # a log begins with all of it
        look(viewing)
    before = look(viewing)[2]
    for _ in range(30):
        for _ in range(chance.randrange(1, 4)):
            length = chance.randrange(1, 40)
            x, y = chance.randrange(WIDTH - length), chance.randrange(HEIGHT)
            guest.draw(x, y, chance.randbytes(4 * length))
        damage: tuple[Rect, ...] = ()
        want = b"".join(
            bytes(guest.backend.region.view[y * STRIDE : y * STRIDE + 4 * WIDTH]) for y in range(HEIGHT)
        )
        data = b""
        while data != want:
            assert hears(viewing)
            news, more, data = look(viewing)
            assert news == News.DAMAGE
            damage += more
        # What was seen before its damage was told is told now.
        while hears(viewing, 0.2):
            damage += look(viewing)[1]
        changed = [at for at in range(0, len(want), 4) if want[at : at + 4] != before[at : at + 4]]
        assert all(covered(damage, at // 4 % WIDTH, at // 4 // WIDTH) for at in changed)
        before = want


def test_bootfb_unchanged_is_no_news(guest: Guest, viewing: NativeViewing) -> None:
    while hears(viewing, 0.3):
        look(viewing)
    changed = guest.framebuffer.counters()["changed"]
    scans = guest.framebuffer.counters()["scans"]
    assert wait_until(lambda: guest.framebuffer.counters()["scans"] > scans + 3, 30)
    assert not hears(viewing, 0)
    assert guest.framebuffer.counters()["changed"] == changed


def test_bootfb_nobody_looks_costs_nothing(guest: Guest) -> None:
    guest.draw(0, 0, b"abcd")
    assert guest.framebuffer.counters()["scans"] == 0


def test_bootfb_viewer_that_does_not_take_its_news_is_not_scanned_for(
    guest: Guest, viewing: NativeViewing
) -> None:
    while hears(viewing, 0.3):
        look(viewing)
    guest.draw(1, 1, b"abcd")
    assert hears(viewing)

    def rests() -> bool:
        scans = guest.framebuffer.counters()["scans"]
        select.select([], [], [], 0.2)
        return guest.framebuffer.counters()["scans"] == scans

    assert wait_until(rests, 30)
    look(viewing)
    guest.draw(2, 2, b"efgh")
    assert hears(viewing)


def test_bootfb_held_touches_no_memory_and_is_black_afterwards(guest: Guest, viewing: NativeViewing) -> None:
    guest.draw(1, 1, b"abcd")
    with guest.framebuffer.held():
        scans = guest.framebuffer.counters()["scans"]
        select.select([viewing], [], [], 0.2)
        assert guest.framebuffer.counters()["scans"] == scans
    assert wait_until(lambda: not any(look(viewing)[2]), 30)
    guest.draw(5, 5, b"ijkl")
    guest.backend.written.add(0)
    assert wait_until(lambda: b"ijkl" in look(viewing)[2], 30)


@pytest.mark.parametrize("cause", ["reset", "unplug"])
def test_bootfb_gives_way_to_a_driver_and_comes_back(guest: Guest, cause: str) -> None:
    gpu = Gpu()
    try:
        guest.framebuffer.take(gpu.gpu, lib.vd_gpu_scanout(gpu.gpu._gpu, 0))
        assert guest.framebuffer.screen is None
        viewing = gpu.gpu.screen.scanouts[0].view()
        look(viewing)
        guest.draw(0, 0, b"boot")
        assert wait_until(lambda: look(viewing)[2][:4] == b"boot", 30)
        gpu.start()
        assert look(viewing)[2][:4] == b"boot"  # a driver that shows nothing yet

        data = picture(64, 64)
        gpu.shown(1, 64, 64, data)
        update = viewing.take()
        assert News.SURFACE in update.news
        assert update.surface is not None
        assert bytes(update.surface.view) == data
        update.surface.close()
        scans = guest.framebuffer.counters()["scans"]
        guest.draw(0, 0, b"more")
        select.select([viewing], [], [], 0.3)
        assert viewing.take().news == 0
        assert guest.framebuffer.counters()["scans"] <= scans + 1

        # A driver that shows nothing any more has the screen still: it is blank.
        assert gpu.set_scanout(0, (0, 0, 0, 0)) == OK
        assert viewing.take().surface is None
        if cause == "reset":
            gpu.write(0x70, 4, 0)
            assert wait_until(lambda: gpu.status == 0, 30)
            news, damage, _ = look(viewing)
            assert News.SURFACE in news
            assert [(r.width, r.height) for r in damage] == [(WIDTH, HEIGHT)]
            assert wait_until(lambda: look(viewing)[2][:4] == b"more", 30)
            viewing.close()
        guest.framebuffer.give_back(gpu.gpu)
        own = guest.framebuffer.screen
        assert own is not None
        viewing = own.scanouts[0].view()
        assert wait_until(lambda: look(viewing)[2][:4] == b"more", 30)
    finally:
        guest.framebuffer.give_back(gpu.gpu)
        gpu.free()


def test_bootfb_that_somebody_looks_at_is_not_taken_by_a_gpu_plugged_in(
    guest: Guest, viewing: NativeViewing
) -> None:
    gpu = Gpu()
    try:
        guest.framebuffer.take(gpu.gpu, lib.vd_gpu_scanout(gpu.gpu._gpu, 0))
        assert guest.framebuffer.screen is not None
        guest.draw(0, 0, b"here")
        assert wait_until(lambda: look(viewing)[2][:4] == b"here", 30)
    finally:
        guest.framebuffer.give_back(gpu.gpu)
        gpu.free()


def test_pixels_of_a_file_that_can_shrink_are_refused(host: Host) -> None:
    error = ffi.new("int *")
    native = ffi.cast("struct vd_host *", host.native)
    with tempfile.TemporaryFile() as file:
        file.truncate(4096)
        assert lib.vd_pixels_map(native, file.fileno(), 4096, error) == ffi.NULL
        assert error[0] < 0
    region = MemoryRegion("short", 4096)
    assert lib.vd_pixels_map(native, region.fd, 8192, error) == ffi.NULL
    pixels = lib.vd_pixels_map(native, region.fd, 4096, error)
    region.close()
    with pytest.raises(PermissionError):
        os.ftruncate(lib.vd_pixels_fd(pixels), 0)
    lib.vd_pixels_unref(pixels)
