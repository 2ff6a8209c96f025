# SPDX-License-Identifier: MIT
"""The device trees of aarch64 and riscv64, checked with dtc and by reading them back."""

from __future__ import annotations

import shutil
import struct
import subprocess
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

import libfdt
import msgspec
import pytest
from arch_support import FakeMemory, make_layout, make_platform, riscv_image

from vdesktop_core.arch import aarch64, riscv64
from vdesktop_core.arch.boot import Boot, BootSource, FramebufferLayout, MachineLayout
from vdesktop_core.arch.memory_map import MIB, SLOT_COUNT, Window, memory_map
from vdesktop_core.errors import BootError, ConfigError
from vdesktop_core.hypervisor import Arch, InterruptController, IrqTrigger, Platform

if TYPE_CHECKING:
    from pathlib import Path

_Builder = Callable[[MachineLayout, Platform, bytes, Window | None], bytes]
_BUILDERS: dict[Arch, _Builder] = {
    Arch.AARCH64: aarch64.device_tree,
    Arch.RISCV64: riscv64.device_tree,
}
_INITRD = Window(0x8800_0000, 12345)
_SCREEN = FramebufferLayout(0x1000_0000, 1024, 768, 4096)

each_arch = pytest.mark.parametrize("arch", _BUILDERS)


def _tree(arch: Arch, cpus: int = 2, **changes: object) -> libfdt.FdtRo:
    layout = make_layout(arch, 512 * MIB, cpus, framebuffer=_SCREEN)
    platform = make_platform(arch, cpus, **changes)
    return libfdt.FdtRo(_BUILDERS[arch](layout, platform, b"console=hvc0 quiet", _INITRD))


def _cells(tree: libfdt.FdtRo, path: str, name: str) -> list[int]:
    data = bytes(tree.getprop(tree.path_offset(path), name))
    return list(struct.unpack(f">{len(data) // 4}I", data))


def _text(tree: libfdt.FdtRo, path: str, name: str) -> list[str]:
    data = bytes(tree.getprop(tree.path_offset(path), name))
    return data.decode().rstrip("\0").split("\0")


@each_arch
@pytest.mark.parametrize("cpus", [1, 4, 8])
@pytest.mark.skipif(shutil.which("dtc") is None, reason="dtc is not installed")
def test_device_tree_compiler_has_no_complaint(arch: Arch, cpus: int) -> None:
    layout = make_layout(arch, 512 * MIB, cpus, framebuffer=_SCREEN)
    blob = _BUILDERS[arch](layout, make_platform(arch, cpus), b"quiet", _INITRD)
    done = subprocess.run(["dtc", "-I", "dtb", "-O", "dts"], input=blob, capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")


@each_arch
def test_device_tree_chosen_tells_the_boot(arch: Arch) -> None:
    tree = _tree(arch)
    assert _text(tree, "/chosen", "bootargs") == ["console=hvc0 quiet"]
    assert _cells(tree, "/chosen", "linux,initrd-start") == [0, _INITRD.base]
    assert _cells(tree, "/chosen", "linux,initrd-end") == [0, _INITRD.end]
    stdout = _text(tree, "/chosen", "stdout-path")[0]
    assert _text(tree, stdout, "compatible") == ["ns16550a"]
    screen = "/chosen/framebuffer@10000000"
    assert _text(tree, screen, "compatible") == ["simple-framebuffer"]
    assert _cells(tree, screen, "reg") == [0, 0x1000_0000, 0, 768 * 4096]
    assert [_cells(tree, screen, name) for name in ("width", "height", "stride")] == [[1024], [768], [4096]]


@each_arch
def test_device_tree_seeds_differ_every_time(arch: Arch) -> None:
    first, second = _tree(arch), _tree(arch)
    for name in ("rng-seed", "kaslr-seed"):
        assert _cells(first, "/chosen", name) != _cells(second, "/chosen", name)


@each_arch
def test_device_tree_slots_are_those_of_the_memory_map(arch: Arch) -> None:
    tree, m = _tree(arch), memory_map(arch)
    for index in range(SLOT_COUNT):
        window = m.slot(index)
        path = f"/virtio_mmio@{window.base:x}"
        assert _text(tree, path, "compatible") == ["virtio,mmio"]
        assert _cells(tree, path, "reg") == [0, window.base, 0, window.size]
        interrupt = [m.line(index)] if arch is Arch.RISCV64 else [0, m.line(index), 4]
        assert _cells(tree, path, "interrupts") == interrupt
        assert tree.hasprop(tree.path_offset(path), "dma-coherent")


def test_device_tree_of_a_backend_with_edges_has_them_for_slots_alone() -> None:
    places = memory_map(Arch.AARCH64)
    assert places.rtc is not None
    controller = make_platform(Arch.AARCH64).interrupt_controller
    edges = msgspec.structs.replace(controller, trigger=IrqTrigger.EDGE)
    tree = _tree(Arch.AARCH64, interrupt_controller=edges)
    paths = {
        f"/virtio_mmio@{places.slot(3).base:x}": 1,
        f"/serial@{places.uart.window.base:x}": 4,
        f"/rtc@{places.rtc.window.base:x}": 4,
    }
    assert {path: _cells(tree, path, "interrupts")[2] for path in paths} == paths


@each_arch
def test_device_tree_clock_is_what_stock_kernels_have_a_driver_for(arch: Arch) -> None:
    tree, rtc = _tree(arch), memory_map(arch).rtc
    assert rtc is not None
    path = f"/rtc@{rtc.window.base:x}"
    riscv64 = arch is Arch.RISCV64
    # drivers/rtc/rtc-goldfish.c, drivers/rtc/rtc-pl031.c
    assert _text(tree, path, "compatible")[0] == ("google,goldfish-rtc" if riscv64 else "arm,pl031")
    assert _cells(tree, path, "reg") == [0, rtc.window.base, 0, rtc.window.size]
    assert _cells(tree, path, "interrupts") == ([rtc.line] if riscv64 else [0, rtc.line, 4])
    assert tree.hasprop(tree.path_offset(path), "clocks") is not riscv64


@each_arch
def test_device_tree_memory_is_the_ram(arch: Arch) -> None:
    tree, ram = _tree(arch), memory_map(arch).ram[0]
    assert _cells(tree, f"/memory@{ram.base:x}", "reg") == [0, ram.base, 0, 512 * MIB]


@each_arch
def test_device_tree_without_uart_and_initrd_names_neither(arch: Arch) -> None:
    layout = make_layout(arch, uart=False)
    tree = libfdt.FdtRo(_BUILDERS[arch](layout, make_platform(arch), b"", None))
    chosen = tree.path_offset("/chosen")
    for name in ("stdout-path", "linux,initrd-start", "linux,initrd-end"):
        assert not tree.hasprop(chosen, name)
    quiet = (libfdt.NOTFOUND,)
    assert tree.path_offset("/serial@9000000", quiet) < 0


@each_arch
def test_device_tree_foreign_interrupt_controller_is_refused(arch: Arch) -> None:
    foreign = InterruptController("xics", {}, range(64))
    with pytest.raises(BootError, match="'xics'"):
        _tree(arch, interrupt_controller=foreign)


def test_device_tree_aarch64_cpus_start_by_psci() -> None:
    tree = _tree(Arch.AARCH64, cpu_ids=(0, 0x100), cpu_model={"compatible": "arm,cortex-a72"})
    assert _cells(tree, "/cpus/cpu@100", "reg") == [0, 0x100]
    assert _text(tree, "/cpus/cpu@100", "compatible") == ["arm,cortex-a72"]
    assert _text(tree, "/cpus/cpu@100", "enable-method") == ["psci"]
    assert _text(tree, "/psci", "method") == ["hvc"]


def test_device_tree_aarch64_gicv2_timer_names_all_cpus() -> None:
    assert _cells(_tree(Arch.AARCH64, 3), "/timer", "interrupts")[2::3] == [0x704] * 4


def test_device_tree_aarch64_gicv3_has_redistributors() -> None:
    m = memory_map(Arch.AARCH64)
    regions = {name: (w.base, w.size) for name, w in m.interrupt_controller.items()}
    tree = _tree(
        Arch.AARCH64, interrupt_controller=InterruptController("gicv3", regions, range(64), IrqTrigger.EDGE)
    )
    gic = "/interrupt-controller@8000000"
    assert _text(tree, gic, "compatible") == ["arm,gic-v3"]
    assert _cells(tree, gic, "reg")[4:] == [0, 0x080A_0000, 0, 0xF6_0000]
    assert _cells(tree, "/virtio_mmio@a001000", "interrupts") == [0, 17, 1]
    assert _cells(tree, "/timer", "interrupts")[2::3] == [4] * 4


def test_device_tree_riscv64_harts_have_an_interrupt_controller_each() -> None:
    tree = _tree(Arch.RISCV64, 2, cpu_model={"riscv,isa": "rv64gc_zba"})
    phandles = [_cells(tree, f"/cpus/cpu@{n}/interrupt-controller", "phandle")[0] for n in range(2)]
    contexts = _cells(tree, "/interrupt-controller@c000000", "interrupts-extended")
    assert contexts == [phandles[0], 9, phandles[1], 9]
    for path in ("/", "/cpus", "/cpus/cpu@0", "/cpus/cpu@0/interrupt-controller"):
        assert not tree.hasprop(tree.path_offset(path), "interrupt-parent")
    assert _cells(tree, "/interrupt-controller@c000000", "riscv,ndev") == [63]
    assert _cells(tree, "/cpus", "timebase-frequency") == [10_000_000]
    assert _text(tree, "/cpus/cpu@1", "riscv,isa-extensions") == ["i", "m", "a", "f", "d", "c", "zba"]


@pytest.mark.parametrize("isa", ["", "rv32imac", "rv64", "rv64i-z", "rv64i_"])
def test_device_tree_riscv64_malformed_isa_is_refused(isa: str) -> None:
    with pytest.raises(BootError, match="riscv,isa"):
        _tree(Arch.RISCV64, cpu_model={"riscv,isa": isa})


@pytest.mark.parametrize(
    "changes", [{"format": "nv12"}, {"width": 0}, {"height": 1 << 20}, {"stride": 4095}, {"width": -1}]
)
def test_framebuffer_without_sense_is_refused(changes: dict[str, object]) -> None:
    fields: dict[str, object] = {"base": 0x1000_0000, "width": 1024, "height": 768, "stride": 4096}
    with pytest.raises(ConfigError, match="framebuffer"):
        FramebufferLayout(**{**fields, **changes})  # type: ignore[arg-type]


def test_riscv64_framebuffer_is_told_by_efi_tables_only(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(riscv_image())
    layout = msgspec.structs.replace(
        make_layout(Arch.RISCV64, 128 * MIB, framebuffer=_SCREEN), append=("console=tty0",)
    )
    memory = FakeMemory(layout.ram)
    boot = Boot(BootSource(tmp_path / "k", append="quiet"), Arch.RISCV64)
    entry = boot.load(layout, make_platform(Arch.RISCV64), memory)
    boot.close()
    tree = libfdt.FdtRo(memory.read(entry.registers["a1"], 64 << 10))
    assert _text(tree, "/chosen", "bootargs") == ["console=tty0 quiet"]
    with pytest.raises(libfdt.FdtException):
        tree.path_offset("/chosen/framebuffer@10000000")

    def number(name: str) -> int:
        return int.from_bytes(bytes(tree.getprop(tree.path_offset("/chosen"), name)), "big")

    system = number("linux,uefi-system-table")
    assert memory.read(system, 8) == b"IBI SYST"
    count, tables = struct.unpack("<QQ", memory.read(system + 104, 16))
    found = {}
    for index in range(count):
        guid, at = struct.unpack("<16sQ", memory.read(tables + 24 * index, 24))
        found[uuid.UUID(bytes_le=guid)] = at
    info = memory.read(found[uuid.UUID("e03fc20a-85dc-406e-b90e-4ab502371d95")], 64)
    assert struct.unpack_from("<HHHII", info, 0x12) == (1024, 768, 32, 0x1000_0000, 768 * 4096)
    properties = memory.read(found[uuid.UUID("eb66918a-7eef-402a-842e-931d21c38ae9")], 8)
    assert struct.unpack("<HHI", properties) == (1, 8, 0)

    size, start = number("linux,uefi-mmap-desc-size"), number("linux,uefi-mmap-start")
    entries = [
        struct.unpack_from("<I4xQQQQ", memory.read(start + at, size))
        for at in range(0, number("linux,uefi-mmap-size"), size)
    ]
    assert [(kind, attribute) for kind, _, _, _, attribute in entries] == [(7, 8), (9, 8), (7, 8)]
    end = layout.ram[0].base
    for _, base, _, pages, _ in entries:
        assert base == end
        end = base + 4096 * pages
    assert end == layout.ram[0].end
    (kept,) = (Window(base, 4096 * pages) for kind, base, _, pages, _ in entries if kind == 9)
    assert kept.contains(Window(system, 120))
    assert kept.contains(Window(start, size * len(entries)))
