# SPDX-License-Identifier: MIT
"""What the tests of vdesktop_core.arch share: fake guest memory, platforms, small kernels."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import struct
from typing import TYPE_CHECKING

import lz4.block
import zstandard

from vdesktop_core.arch.boot import FramebufferLayout, MachineLayout, RtcLayout, SlotLayout, UartLayout
from vdesktop_core.arch.memory_map import MIB, SLOT_COUNT, Window, memory_map, ram_banks
from vdesktop_core.errors import GuestMemoryError
from vdesktop_core.hypervisor import Arch, InterruptController, IrqTrigger, Platform

if TYPE_CHECKING:
    from collections.abc import Sequence

_KINDS = {Arch.X86_64: "ioapic", Arch.AARCH64: "gicv2", Arch.RISCV64: "plic"}
_ENABLE = {Arch.X86_64: "apic", Arch.AARCH64: "psci-hvc", Arch.RISCV64: "sbi"}


def noise(seed: int, size: int) -> bytes:
    """Bytes that do not compress, the same every time."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)


class FakeMemory:
    """Guest memory that remembers what was written, refuses holes, and never takes a byte twice."""

    def __init__(self, ram: Sequence[Window]) -> None:
        self._ram = ram
        self.writes: list[tuple[int, bytes]] = []

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        window = Window(gpa, len(data))
        if not any(bank.contains(window) for bank in self._ram):
            raise GuestMemoryError(f"{gpa:#x}+{len(data):#x} is not memory")
        for other, written in self.writes:
            assert not window.overlaps(Window(other, len(written))), f"{gpa:#x} written twice"
        self.writes.append((gpa, bytes(data)))

    def write_from(self, gpa: int, fd: int, offset: int, size: int) -> int:
        data = os.pread(fd, size, offset)
        self.write(gpa, data)
        return len(data)

    def read(self, gpa: int, size: int) -> bytes:
        data = bytearray(size)
        for base, written in self.writes:
            start, end = max(base, gpa), min(base + len(written), gpa + size)
            if start < end:
                data[start - gpa : end - gpa] = written[start - base : end - base]
        return bytes(data)


def make_platform(arch: Arch, cpus: int = 2, **changes: object) -> Platform:
    regions = {n: (w.base, w.size) for n, w in memory_map(arch).interrupt_controller.items()}
    fields: dict[str, object] = {
        "interrupt_controller": InterruptController(_KINDS[arch], regions, range(64), IrqTrigger.LEVEL),
        "timer_hz": 10_000_000,
        "cpu_ids": tuple(range(cpus)),
        "cpu_enable": _ENABLE[arch],
        "ports": memory_map(arch).ports,
    }
    return Platform(**{**fields, **changes})  # type: ignore[arg-type]


def make_layout(
    arch: Arch,
    memory: int = 256 * MIB,
    vcpus: int = 2,
    *,
    uart: bool = True,
    framebuffer: FramebufferLayout | None = None,
) -> MachineLayout:
    m = memory_map(arch)
    return MachineLayout(
        arch=arch,
        vcpus=vcpus,
        ram=ram_banks(arch, memory),
        slots=tuple(SlotLayout(i, m.slot(i).base, m.line(i)) for i in range(SLOT_COUNT)),
        uart=UartLayout(m.uart.window.base, m.uart.line) if uart else None,
        rtc=RtcLayout(m.rtc.window.base, m.rtc.line, m.rtc.model) if m.rtc is not None else None,
        framebuffer=framebuffer,
    )


def arm64_image(
    size: int = 8192, text_offset: int = 0, image_size: int = 0x10_0000, flags: int = 0xA
) -> bytes:
    head = struct.pack("<IIQQQ", 0x91005A4D, 0x14000000, text_offset, image_size, flags)
    return (head.ljust(56, b"\0") + b"ARM\x64").ljust(64, b"\0").ljust(size, b"a")


def with_sections(image: bytes, *sections: tuple[int, int]) -> bytes:
    """An ``Image`` with a PE header, as the EFI stub has it: sections of (offset, size) in the file."""
    out = bytearray(image)
    struct.pack_into("<I", out, 60, 64)
    struct.pack_into("<4sHH12xHH", out, 64, b"PE\0\0", 0xAA64, len(sections), 16, 0x206)
    for index, (offset, size) in enumerate(sections):
        where = 64 + 24 + 16 + 40 * index
        if where + 40 <= len(out):
            struct.pack_into("<8sIIII", out, where, b".text", size, offset, size, offset)
    return bytes(out)


def riscv_image(size: int = 8192, text_offset: int = 0x20_0000, image_size: int = 0x10_0000) -> bytes:
    head = struct.pack("<IIQQQI", 0x5A4D, 0x0140006F, text_offset, image_size, 0, 2)
    return (head.ljust(48, b"\0") + b"RISCV\0\0\0RSC\x05").ljust(64, b"\0").ljust(size, b"r")


def elf_image(
    machine: int = 62,
    entry: int = 0x100_0040,
    segments: Sequence[tuple[int, int, int]] = ((0x100_0000, 8192, 0x4000),),
) -> bytes:
    """An executable of (physical address, file size, memory size) segments."""
    offset = 4096
    headers = data = b""
    for base, file_size, memory_size in segments:
        headers += struct.pack(
            "<IIQQQQQQ", 1, 5, offset + len(data), base, base, file_size, memory_size, 4096
        )
        data += bytes([base >> 20 & 0xFF or 1]) * file_size
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, entry, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    return (head + headers).ljust(offset, b"\0") + data


def lz4_legacy(data: bytes) -> bytes:
    out = struct.pack("<I", 0x184C2102)
    for start in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[start : start + (8 << 20)], store_size=False)
        out += struct.pack("<I", len(block)) + block
    return out


_KERNEL_XZ = [
    {"id": lzma.FILTER_X86},
    {"id": lzma.FILTER_LZMA2, "preset": 6},
]

#: As the kernel's build packs: name -> (function, whether a size word follows).
PACKERS = {
    "gzip": (gzip.compress, False),
    "xz": (lambda d: lzma.compress(d, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=_KERNEL_XZ), True),
    "lzma": (lambda d: lzma.compress(d, lzma.FORMAT_ALONE), True),
    "bzip2": (bz2.compress, True),
    "lz4": (lz4_legacy, True),
    "zstd": (lambda d: zstandard.ZstdCompressor(write_content_size=False).compress(d), True),
}


def packed(data: bytes, name: str) -> bytes:
    pack, size_word = PACKERS[name]
    return pack(data) + (struct.pack("<I", len(data)) if size_word else b"")


def bzimage(payload: bytes, version: int = 0x20F, xloadflags: int = 1, length: int | None = None) -> bytes:
    """A bzImage of one setup sector around a packed payload."""
    setup = bytearray(1024)
    setup[0x1F1] = 1
    struct.pack_into("<H", setup, 0x1FE, 0xAA55)
    setup[0x201] = 0x6A
    struct.pack_into("<4sH", setup, 0x202, b"HdrS", version)
    setup[0x211] = 1
    struct.pack_into("<I", setup, 0x22C, 0x7FFF_FFFF)
    struct.pack_into("<H", setup, 0x236, xloadflags)
    struct.pack_into("<I", setup, 0x238, 2047)
    struct.pack_into("<II", setup, 0x248, 64, len(payload) if length is None else length)
    return bytes(setup) + bytes(64) + payload + bytes(512)


def zboot(payload: bytes, machine: int, name: bytes = b"gzip") -> bytes:
    """An EFI zboot image around a packed payload."""
    head = bytearray(256)
    struct.pack_into("<2sxx4sII", head, 0, b"MZ", b"zimg", 256, len(payload))
    head[24 : 24 + len(name)] = name
    struct.pack_into("<II", head, 0x38, 0x818223CD, 0x40)
    struct.pack_into("<4sH", head, 0x40, b"PE\0\0", machine)
    return bytes(head) + payload


KERNELS = {
    Arch.X86_64: lambda: bzimage(packed(elf_image(), "gzip")),
    Arch.AARCH64: arm64_image,
    Arch.RISCV64: riscv_image,
}
