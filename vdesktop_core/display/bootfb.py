# SPDX-License-Identifier: MIT
"""The boot framebuffer: the screen of a guest that has no driver of ours, over ``vdesktop/bootfb.h``."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from vdesktop_core._native import ffi, lib
from vdesktop_core.arch.boot import FramebufferLayout
from vdesktop_core.arch.memory_map import Window, memory_map
from vdesktop_core.config import parse_pixels
from vdesktop_core.display.native import NativeScanout
from vdesktop_core.display.screen import PixelFormat
from vdesktop_core.errors import ConfigError, DeviceError
from vdesktop_core.iothread import IoThread
from vdesktop_core.memory import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from vdesktop_core.hypervisor import Arch, VirtualMachine
    from vdesktop_core.memory import GuestMemory

_BYTES_PER_PIXEL = 4


def place_framebuffer(arch: Arch, size: str) -> FramebufferLayout:
    """Return where the boot framebuffer lies: at the start of the memory map's aperture.

    Args:
        arch: the machine's.
        size: such as ``1024x768``.

    Raises:
        ConfigError: it makes no sense, or is larger than the aperture.
    """
    width, height = parse_pixels(size)
    aperture = memory_map(arch).aperture
    layout = FramebufferLayout(aperture.base, width, height, width * _BYTES_PER_PIXEL)
    if not aperture.contains(Window(layout.base, layout.size)):
        raise ConfigError(f"framebuffer = {size!r}: the memory map has {aperture.size >> 20} MiB for it")
    return layout


class BootFramebuffer:
    """Memory to draw on, and what tells viewers of changes.

    Args:
        host: address of the ``struct vd_host``.
        layout: where the guest finds it.
        memory: the guest's; it owns what is added to it.
        vm: gives the memory, and the log of what was written, if it has one.

    Raises:
        VdesktopError: the backend or the host refuses.
    """

    name = "framebuffer"

    def __init__(self, host: int, layout: FramebufferLayout, memory: GuestMemory, vm: VirtualMachine) -> None:
        self.layout = layout
        self._taken_by: object = None
        size = -(-layout.size // PAGE_SIZE) * PAGE_SIZE
        self._region = vm.allocate_memory(layout.base, self.name, size)
        try:
            memory.add(layout.base, self._region)
        except BaseException:
            self._region.close()
            raise
        options = {
            "fd": self._region.fd,
            "memory": ffi.cast("void *", self._region.address),
            "gpa": layout.base,
            "size": size,
            "width": layout.width,
            "height": layout.height,
            "stride": layout.stride,
            "format": int(PixelFormat.XRGB8888),
            "dirty": ffi.cast("struct vd_dirty *", vm.dirty_hook()),
        }
        failure = ffi.new("int *")
        self._thread = IoThread(host, "vd-bootfb")
        self._bootfb = lib.vd_bootfb_new(
            ffi.cast("struct vd_host *", host),
            ffi.cast("struct vd_loop *", self._thread.native),
            ffi.new("struct vd_bootfb_options *", options),
            failure,
        )
        if self._bootfb == ffi.NULL:
            self._thread.close()
            raise DeviceError(f"cannot show the boot framebuffer: {os.strerror(-failure[0])}")
        self._screen = _OwnScreen(lib.vd_bootfb_scanout(self._bootfb), self.refresh)

    @property
    def screen(self) -> _OwnScreen | None:
        """A screen that shows it, unless a display device does: :meth:`take`."""
        return self._screen if self._taken_by is None else None

    def take(self, device: object, scanout: Any) -> None:
        """Have a display device's ``struct vd_scanout`` show it until the driver shows something of its own.

        The first device that asks has it; none that is plugged in while people look at it as it is.
        """
        if self._taken_by is None and not self._screen.watched:
            self._taken_by = device
            lib.vd_bootfb_attach(self._bootfb, scanout)

    def give_back(self, device: object) -> None:
        """The device's scanout is about to go."""
        if self._taken_by is device:
            self._taken_by = None
            lib.vd_bootfb_attach(self._bootfb, ffi.NULL)

    def refresh(self) -> None:
        """Have who begins to look see what is there now, also where viewers look at a copy."""
        lib.vd_bootfb_refresh(self._bootfb)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep away from the memory meanwhile; afterwards it is black, as at power-on."""
        lib.vd_bootfb_hold(self._bootfb, True)
        try:
            yield
            self._region.clear(0, self._region.size)
        finally:
            lib.vd_bootfb_hold(self._bootfb, False)

    def counters(self) -> Mapping[str, int]:
        """Looks at the memory, those that found a change, and the nanoseconds that all took."""
        counters = ffi.new("struct vd_bootfb_counters *")
        lib.vd_bootfb_counters(self._bootfb, counters)
        return {
            name: int(getattr(counters, name)) for name, _ in ffi.typeof("struct vd_bootfb_counters").fields
        }

    def close(self) -> None:
        """Look no more. Idempotent."""
        if self._bootfb != ffi.NULL:
            self._screen.close()
            lib.vd_bootfb_free(self._bootfb)
            self._bootfb = ffi.NULL
            self._thread.close()


class _OwnScreen:
    """The screen of a machine without a display device: its size is fixed."""

    def __init__(self, scanout: Any, refresh: Callable[[], None]) -> None:
        self._scanout = NativeScanout(scanout, lambda _width, _height: None, refresh)

    @property
    def scanouts(self) -> Sequence[NativeScanout]:
        """One."""
        return (self._scanout,)

    @property
    def watched(self) -> bool:
        """Whether anybody looks."""
        return self._scanout.watched

    def close(self) -> None:
        """End all views."""
        self._scanout.close()
