# SPDX-License-Identifier: MIT
"""Loading a kernel: from files to guest memory and the boot vCPU's entry state.

:class:`Boot` checks the files once and can fill guest memory again and again
(a guest's reset does). Which loader does it depends on the architecture;
loaders are imported lazily.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from vdesktop_core.errors import ConfigError
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from pathlib import Path

    from vdesktop_core.arch.memory_map import Window
    from vdesktop_core.hypervisor import EntryState, Platform


#: Bits a pixel of the boot framebuffer, by the names of the simple-framebuffer binding.
PIXEL_FORMATS = {"x8r8g8b8": 32, "a8r8g8b8": 32, "r5g6b5": 16}

#: The largest initrd, in bytes.
INITRD_LIMIT = 2 << 30


class WritableMemory(Protocol):
    """What a loader needs of guest memory; :class:`vdesktop_core.memory.GuestMemory` has it."""

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes in, or raise GuestMemoryError."""
        ...

    def write_from(self, gpa: int, fd: int, offset: int, size: int) -> int:
        """Copy bytes from a file and return how many there were, or raise GuestMemoryError or OSError."""
        ...


class BootSource(msgspec.Struct, frozen=True):
    """What to boot. ``append`` is the kernel's command line."""

    kernel: Path
    initrd: Path | None = None
    append: str = ""


class SlotLayout(msgspec.Struct, frozen=True):
    """A virtio-mmio slot that the guest is told of."""

    index: int
    base: int
    line: int


class UartLayout(msgspec.Struct, frozen=True):
    """The debug UART. ``base`` is a port on x86_64."""

    base: int
    line: int


class RtcLayout(msgspec.Struct, frozen=True):
    """The real-time clock; ``model`` as in :class:`~vdesktop_core.arch.memory_map.Rtc`."""

    base: int
    line: int
    model: str


class EventsLayout(msgspec.Struct, frozen=True):
    """The registers of ``vdesktop/acpi_events.h``."""

    base: int
    line: int


class FramebufferLayout(msgspec.Struct, frozen=True):
    """The boot framebuffer. ``stride`` in bytes; ``format`` is a key of :data:`PIXEL_FORMATS`.

    Raises:
        ConfigError: the geometry makes no sense.
    """

    base: int
    width: int
    height: int
    stride: int
    format: str = "x8r8g8b8"

    def __post_init__(self) -> None:
        """Check the geometry."""
        bits = PIXEL_FORMATS.get(self.format)
        if bits is None:
            raise ConfigError(f"framebuffer format {self.format!r} is not one of {', '.join(PIXEL_FORMATS)}")
        edge = range(1, 1 << 14)
        if self.width not in edge or self.height not in edge or self.width * bits // 8 > self.stride:
            raise ConfigError(
                f"framebuffer of {self.width} x {self.height} with {self.stride} bytes a line makes no sense"
            )

    @property
    def size(self) -> int:
        """Bytes from the first to the last pixel."""
        return self.height * self.stride


class MachineLayout(msgspec.Struct, frozen=True):
    """The machine as it was put together: what the guest is to be told."""

    arch: Arch
    #: vCPUs that the guest is told of; ``Platform.cpu_ids`` beyond them can be hot-plugged.
    vcpus: int
    ram: tuple[Window, ...]
    slots: tuple[SlotLayout, ...]
    uart: UartLayout | None = None
    rtc: RtcLayout | None = None
    events: EventsLayout | None = None
    framebuffer: FramebufferLayout | None = None
    #: Words for the kernel command line, before the user's.
    append: tuple[str, ...] = ()


class Loader(Protocol):
    """The architecture's part: made from checked files, fills guest memory."""

    def load(self, layout: MachineLayout, platform: Platform, memory: WritableMemory) -> EntryState:
        """Write everything the boot needs."""
        ...

    def close(self) -> None:
        """Close files. Idempotent."""
        ...


class Boot:
    """A kernel, an initrd and a command line, opened and checked.

    Args:
        source: what to boot.
        arch: the machine's architecture.

    Raises:
        BootError: a file is absent, broken or made for another architecture.
    """

    def __init__(self, source: BootSource, arch: Arch) -> None:
        self.source = source
        self.arch = arch
        self._loader = _make_loader(source, arch)

    def load(self, layout: MachineLayout, platform: Platform, memory: WritableMemory) -> EntryState:
        """Fill guest memory, whose RAM is zero or left by an earlier run.

        Returns:
            The registers of the boot vCPU.

        Raises:
            BootError: it does not fit, or a file changed since it was opened.
        """
        return self._loader.load(layout, platform, memory)

    def close(self) -> None:
        """Close files. Idempotent."""
        self._loader.close()


def load(source: BootSource, layout: MachineLayout, platform: Platform, memory: WritableMemory) -> EntryState:
    """Load once; see :class:`Boot` for machines that reset."""
    boot = Boot(source, layout.arch)
    try:
        return boot.load(layout, platform, memory)
    finally:
        boot.close()


def _make_loader(source: BootSource, arch: Arch) -> Loader:
    match arch:
        case Arch.X86_64:
            from vdesktop_core.arch.x86_64 import X86Loader

            return X86Loader(source)
        case Arch.AARCH64:
            from vdesktop_core.arch.aarch64 import Aarch64Loader

            return Aarch64Loader(source)
        case Arch.RISCV64:
            from vdesktop_core.arch.riscv64 import Riscv64Loader

            return Riscv64Loader(source)
