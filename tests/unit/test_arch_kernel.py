# SPDX-License-Identifier: MIT
"""Kernel files, valid, foreign and hostile, through the public face: Boot."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from arch_support import (
    KERNELS,
    PACKERS,
    FakeMemory,
    arm64_image,
    bzimage,
    elf_image,
    make_layout,
    make_platform,
    packed,
    riscv_image,
    with_sections,
    zboot,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vdesktop_core.arch.boot import Boot, BootSource
from vdesktop_core.errors import BootError
from vdesktop_core.hypervisor import Arch


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def _load(tmp_path: Path, arch: Arch, kernel: bytes) -> tuple[FakeMemory, dict[str, int]]:
    path = tmp_path / "kernel"
    path.write_bytes(kernel)
    layout = make_layout(arch)
    memory = FakeMemory(layout.ram)
    boot = Boot(BootSource(path, append="quiet"), arch)
    try:
        return memory, dict(boot.load(layout, make_platform(arch), memory).registers)
    finally:
        boot.close()


def _refused(tmp_path: Path, arch: Arch, kernel: bytes, message: str) -> None:
    with pytest.raises(BootError, match=message) as error:
        _load(tmp_path, arch, kernel)
    assert "\n" not in str(error.value)


def _load_or_refuse(tmp_path: Path, arch: Arch, kernel: bytes) -> None:
    message = ""
    try:
        _load(tmp_path, arch, kernel)
    except BootError as error:
        message = str(error)
    assert "\n" not in message


def _label(value: object) -> str:
    return value.replace(" ", "-") if isinstance(value, str) else ""


@pytest.mark.parametrize("wrap", ["plain", *PACKERS])
def test_kernel_arm64_image_in_any_packing_lands_at_its_offset(tmp_path: Path, wrap: str) -> None:
    image = arm64_image(text_offset=0x8_0000)
    memory, registers = _load(tmp_path, Arch.AARCH64, image if wrap == "plain" else packed(image, wrap))
    assert registers["pc"] == 0x4008_0000
    assert memory.read(0x4008_0000, len(image)) == image


@pytest.mark.parametrize("wrap", ["plain", *PACKERS])
def test_kernel_riscv_image_in_any_packing_lands_at_its_offset(tmp_path: Path, wrap: str) -> None:
    image = riscv_image()
    memory, registers = _load(tmp_path, Arch.RISCV64, image if wrap == "plain" else packed(image, wrap))
    assert registers["pc"] == 0x8020_0000
    assert memory.read(0x8020_0000, len(image)) == image


@pytest.mark.parametrize("wrap", PACKERS)
def test_kernel_bzimage_of_any_packing_lands_at_its_segments(tmp_path: Path, wrap: str) -> None:
    elf = elf_image(segments=((0x100_0000, 8192, 8192), (0x140_0000, 4096, 0x20_0000)))
    memory, registers = _load(tmp_path, Arch.X86_64, bzimage(packed(elf, wrap)))
    assert registers["rip"] == 0x100_0040
    assert memory.read(0x100_0000, 8192) == bytes([0x10]) * 8192
    assert memory.read(0x140_0000, 4097) == bytes([0x14]) * 4096 + b"\0"


@pytest.mark.parametrize("wrap", ["plain", *PACKERS])
def test_kernel_vmlinux_lands_at_its_segments(tmp_path: Path, wrap: str) -> None:
    elf = elf_image()
    memory, registers = _load(tmp_path, Arch.X86_64, elf if wrap == "plain" else packed(elf, wrap))
    assert registers["rip"] == 0x100_0040
    assert memory.read(0x100_0000, 8192) == bytes([0x10]) * 8192


@pytest.mark.parametrize("wrap", PACKERS)
@pytest.mark.parametrize(
    ("arch", "machine", "image"),
    [(Arch.AARCH64, 0xAA64, arm64_image()), (Arch.RISCV64, 0x5064, riscv_image())],
)
def test_kernel_efi_zboot_is_unpacked(
    tmp_path: Path, wrap: str, arch: Arch, machine: int, image: bytes
) -> None:
    memory, registers = _load(tmp_path, arch, zboot(packed(image, wrap), machine))
    assert memory.read(registers["pc"], len(image)) == image


def test_kernel_image_with_its_sections_inside_the_file_is_loaded(tmp_path: Path) -> None:
    image = with_sections(arm64_image(), (4096, 4096), (1024, 512))
    memory, registers = _load(tmp_path, Arch.AARCH64, image)
    assert memory.read(registers["pc"], len(image)) == image


@pytest.mark.parametrize("made_for", Arch)
@pytest.mark.parametrize("machine", Arch)
def test_kernel_of_another_architecture_is_named(tmp_path: Path, made_for: Arch, machine: Arch) -> None:
    if made_for is machine:
        _load(tmp_path, machine, KERNELS[machine]())
        return
    _refused(
        tmp_path, machine, KERNELS[made_for](), f"a kernel for {made_for}, but this machine is {machine}"
    )


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (elf_image(machine=3), "a kernel for i386"),
        (elf_image(machine=40), "a kernel for arm"),
        (zboot(b"x" * 64, 0x6264), "a kernel for loongarch64"),
        (packed(arm64_image(), "gzip"), "a kernel for aarch64"),
        (b"MZ".ljust(60, b"\0") + b"\x40\0\0\0PE\0\0\x64\x86".ljust(200, b"\0"), "an EFI program for x86_64"),
        (b"\x27\x05\x19\x56".ljust(100, b"\0"), "uImage"),
        (b"070701" + b"0" * 200, "was it meant for --initrd"),
        (b"#!/bin/sh\n", "not a Linux kernel"),
        (b"MZ", "not a Linux kernel"),
        (b"\x89LZO\0\r\n\x1a\n" + bytes(100), "LZO compression is not supported"),
        (packed(packed(packed(packed(elf_image(), "gzip"), "gzip"), "gzip"), "gzip"), "more than twice"),
        (b"\x7fELF", "a kernel for"),
    ],
    ids=_label,
)
def test_kernel_that_is_none_is_named(tmp_path: Path, kernel: bytes, message: str) -> None:
    _refused(tmp_path, Arch.X86_64, kernel, message)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (arm64_image(flags=1), "big-endian"),
        (arm64_image(image_size=0), "no image size"),
        (arm64_image(image_size=1 << 40), "the file is corrupt"),
        (arm64_image(text_offset=1 << 62), "the file is corrupt"),
        (arm64_image(text_offset=0x123), "the file is corrupt"),
        (arm64_image()[:60], "truncated"),
        (with_sections(arm64_image(), (4096, 4097)), "truncated: it ends at byte 8192, its section at 8193"),
        (with_sections(arm64_image(), *[(0, 0)] * 400), "truncated"),
        (with_sections(arm64_image(), (1 << 31, 1 << 31)), "truncated"),
        (zboot(b"", 0xAA64), "zboot header is corrupt"),
        (zboot(packed(arm64_image(), "gzip"), 0xAA64)[:-20], "truncated"),
        (elf_image(machine=183), "give the kernel's Image"),
    ],
    ids=_label,
)
def test_kernel_broken_image_is_refused(tmp_path: Path, kernel: bytes, message: str) -> None:
    _refused(tmp_path, Arch.AARCH64, kernel, message)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (bzimage(packed(elf_image(), "gzip"), version=0x20B), "boot protocol 2.11 is too old"),
        (bzimage(packed(elf_image(), "gzip"), xloadflags=0), "a 32-bit x86 kernel"),
        (bzimage(packed(elf_image(), "gzip"), length=1 << 31), "truncated"),
        (bzimage(packed(elf_image(), "gzip"), length=4), "truncated"),
        (bzimage(packed(elf_image(), "gzip"))[:0x240], "truncated"),
        (bzimage(packed(elf_image(), "gzip"))[:1100], "truncated"),
        (bzimage(packed(b"not an ELF file" * 99, "xz")), "not a 64-bit little-endian ELF"),
        (bzimage(b"who knows what this is"), "unknown compression"),
        (elf_image(entry=0x5000), "is in no segment"),
        (elf_image(segments=((0x100_0000, 8192, 4096),)), "is corrupt"),
        (elf_image(segments=((0xFFFF_F000, 4096, 8192),)), "is corrupt"),
        (elf_image(segments=((0x100_0000, 8192, 8192), (0x100_1000, 4096, 4096))), "overlap"),
        (elf_image(segments=()), "0 program headers"),
        (elf_image()[:6000], "truncated"),
        (elf_image()[:70], "truncated"),
        (elf_image(entry=0x1_0040, segments=((0x1_0000, 4096, 4096),)), "would overwrite the boot_params"),
    ],
    ids=_label,
)
def test_kernel_broken_bzimage_or_vmlinux_is_refused(tmp_path: Path, kernel: bytes, message: str) -> None:
    _refused(tmp_path, Arch.X86_64, kernel, message)


def test_kernel_file_that_is_none_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "empty").touch()
    for path, message in [
        (tmp_path / "absent", "No such file"),
        (tmp_path, "not a regular file"),
        (fifo, "not a regular file"),
        (tmp_path / "empty", "is empty"),
        (Path("a\0b"), "cannot open it"),
    ]:
        with pytest.raises(BootError, match=message):
            Boot(BootSource(path), Arch.AARCH64)


@pytest.mark.parametrize("arch", Arch)
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_kernel_hostile_bytes_load_or_are_refused(tmp_path: Path, arch: Arch, data: st.DataObject) -> None:
    image = bytearray(KERNELS[arch]())
    for _ in range(data.draw(st.integers(0, 4))):
        width = data.draw(st.sampled_from([1, 2, 4, 8]))
        where = data.draw(st.integers(0, 0x280 - width))
        value = data.draw(st.one_of(st.integers(0, 256**width - 1), st.just(256**width - 1)))
        image[where : where + width] = value.to_bytes(width, "little")
    size = data.draw(st.one_of(st.just(len(image)), st.integers(1, len(image))))
    _load_or_refuse(tmp_path, arch, bytes(image[:size]))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_kernel_hostile_elf_headers_load_or_are_refused(tmp_path: Path, data: st.DataObject) -> None:
    image = bytearray(elf_image(segments=((0x100_0000, 8192, 8192), (0x140_0000, 4096, 4096))))
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(4, 64 + 2 * 56 - 8))
        struct.pack_into("<Q", image, where, data.draw(st.integers(0, (1 << 64) - 1)))
    _load_or_refuse(tmp_path, Arch.X86_64, bytes(image))
