# SPDX-License-Identifier: MIT
"""The ACPI tables of x86_64, checked with iasl and by reading them back."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from arch_support import make_layout, make_platform
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vdesktop_core.arch.acpi import aml, tables
from vdesktop_core.arch.boot import EventsLayout
from vdesktop_core.arch.memory_map import SLOT_COUNT, Window, memory_map
from vdesktop_core.errors import BootError
from vdesktop_core.hypervisor import Arch, InterruptController, IrqTrigger

if TYPE_CHECKING:
    from pathlib import Path

_WINDOW = memory_map(Arch.X86_64).boot_data["acpi"]
needs_iasl = pytest.mark.skipif(shutil.which("iasl") is None, reason="iasl is not installed")


def _build(vcpus: int = 2, total: int = 2, *, trigger: IrqTrigger = IrqTrigger.LEVEL) -> dict[str, bytes]:
    """Follow the pointers as a guest does; check every signature, length and checksum on the way."""
    platform = make_platform(Arch.X86_64, total)
    controller = replace(platform.interrupt_controller, trigger=trigger)
    layout = make_layout(Arch.X86_64, vcpus=vcpus)
    blob = tables.build(layout, replace(platform, interrupt_controller=controller), _WINDOW)

    def table(address: int, signature: bytes) -> bytes:
        start = address - _WINDOW.base
        (size,) = struct.unpack_from("<I", blob, start + 4)
        data = blob[start : start + size]
        assert data[:4] == signature
        assert len(data) == size
        assert sum(data) & 0xFF == 0
        return data

    rsdp = blob[:36]
    assert rsdp[:8] == b"RSD PTR "
    assert sum(rsdp[:20]) & 0xFF == sum(rsdp) & 0xFF == 0
    xsdt = table(struct.unpack_from("<Q", rsdp, 24)[0], b"XSDT")
    fadt_at, madt_at = struct.unpack_from("<QQ", xsdt, 36)
    fadt = table(fadt_at, b"FACP")
    dsdt = table(struct.unpack_from("<Q", fadt, 140)[0], b"DSDT")
    return {"xsdt": xsdt, "facp": fadt, "apic": table(madt_at, b"APIC"), "dsdt": dsdt}


def _iasl(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["iasl", *arguments], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output
    return output


@needs_iasl
@pytest.mark.parametrize("trigger", IrqTrigger)
@pytest.mark.parametrize(("vcpus", "total"), [(1, 1), (4, 8), (300, 300)])
def test_acpi_tables_survive_disassembly_and_recompilation(
    tmp_path: Path, vcpus: int, total: int, trigger: IrqTrigger
) -> None:
    for name, data in _build(vcpus, total, trigger=trigger).items():
        (tmp_path / f"{name}.aml").write_bytes(data)
        output = _iasl(tmp_path, "-d", f"{name}.aml")
        assert not re.search(r"error|warning|invalid", output, re.IGNORECASE), output
        output = _iasl(tmp_path, "-p", f"{name}-again", f"{name}.dsl")
        assert "0 Errors, 0 Warnings" in output, output
        assert (tmp_path / f"{name}-again.aml").read_bytes()[36:] == data[36:]


@needs_iasl
def test_acpi_dsdt_describes_every_slot(tmp_path: Path) -> None:
    (tmp_path / "dsdt.aml").write_bytes(_build()["dsdt"])
    _iasl(tmp_path, "-d", "dsdt.aml")
    source = (tmp_path / "dsdt.dsl").read_text()
    container = source[source.index("Device (VIO)") :]
    assert '"ACPI0004"' in container
    m = memory_map(Arch.X86_64)
    slots = container.split("Device (V0")[1:]
    assert len(slots) == SLOT_COUNT
    for index, slot in enumerate(slots):
        assert '"LNRO0005"' in slot
        assert f"0x{m.slot(index).base:08X}," in slot
        assert "Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive" in slot
        assert f"0x{m.line(index):08X}," in slot
        assert "Name (_CCA, One)" in slot
    assert "0x3F8" in source.replace("0x03F8", "0x3F8")


@needs_iasl
def test_acpi_dsdt_shared_lines_are_marked_so(tmp_path: Path) -> None:
    platform, layout = make_platform(Arch.X86_64), make_layout(Arch.X86_64, uart=False)
    slots = tuple(replace(slot, line=16 + slot.index % 8) for slot in layout.slots)
    blob = tables.build(replace(layout, slots=slots), platform, _WINDOW)
    start = blob.index(b"DSDT")
    (tmp_path / "dsdt.aml").write_bytes(blob[start : start + struct.unpack_from("<I", blob, start + 4)[0]])
    _iasl(tmp_path, "-d", "dsdt.aml")
    source = (tmp_path / "dsdt.dsl").read_text()
    assert source.count("ActiveHigh, Shared") == SLOT_COUNT
    assert "PNP0501" not in source


def _with_events() -> bytes:
    where = memory_map(Arch.X86_64).events
    assert where is not None
    layout = replace(make_layout(Arch.X86_64), events=EventsLayout(where.window.base, where.line))
    blob = tables.build(layout, make_platform(Arch.X86_64), _WINDOW)
    start = blob.index(b"DSDT")
    return blob[start : start + struct.unpack_from("<I", blob, start + 4)[0]]


@needs_iasl
def test_acpi_event_device_survives_disassembly_and_recompilation(tmp_path: Path) -> None:
    data = _with_events()
    (tmp_path / "dsdt.aml").write_bytes(data)
    output = _iasl(tmp_path, "-d", "dsdt.aml")
    assert not re.search(r"error|warning|invalid", output, re.IGNORECASE), output
    output = _iasl(tmp_path, "-p", "again", "dsdt.dsl")
    assert "0 Errors, 0 Warnings" in output, output
    assert (tmp_path / "again.aml").read_bytes()[36:] == data[36:]


@needs_iasl
def test_acpi_event_device_tells_of_slots_and_the_power_button(tmp_path: Path) -> None:
    (tmp_path / "dsdt.aml").write_bytes(_with_events())
    _iasl(tmp_path, "-d", "dsdt.aml")
    source = " ".join((tmp_path / "dsdt.dsl").read_text().split())
    assert "OperationRegion (EREG, SystemMemory, 0xD0020000, 0x08)" in source
    fields = source[source.index("Field (EREG, DWordAcc, NoLock, Preserve)") :]
    fields = fields[: fields.index("}")]
    assert fields.index("EPND, 32") < fields.index("S000, 1") < fields.index("S01F, 1")
    assert fields.count(", 1") == SLOT_COUNT
    device = source[source.index("Device (GED)") :]
    assert '"ACPI0013"' in device
    assert "Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive, ,, ) { 0x00000009, }" in device
    assert "Method (_EVT, 1, Serialized)" in device
    assert "Notify (VIO, Zero)" in device
    assert "Notify (PWRB, 0x80)" in device
    assert 'Device (PWRB) { Name (_HID, EisaId ("PNP0C0C")' in source
    for slot in range(SLOT_COUNT):
        assert f"If (S{slot:03X}) {{ Return (0x0F) }}" in source


def test_aml_field_refuses_what_it_cannot_encode() -> None:
    with pytest.raises(ValueError, match="not of 1 to 63 bits"):
        aml.dword_field("EREG", ("WIDE", 64))


def test_acpi_fadt_is_hardware_reduced_with_the_map_s_ports() -> None:
    fadt = _build()["facp"]
    (flags,) = struct.unpack_from("<I", fadt, 112)
    assert flags & 1 << 20
    assert flags & 1 << 10
    ports = [struct.unpack_from("<BBBBQ", fadt, offset) for offset in (244, 256, 116)]
    assert ports == [(1, 8, 0, 1, port) for port in (0x600, 0x601, 0x602)]
    assert fadt[128] == 1
    assert not any(fadt[56:109])  # no fixed hardware blocks


def test_acpi_madt_lists_present_and_absent_processors() -> None:
    madt = _build(vcpus=2, total=3)["apic"]
    entries = {}
    offset = 44
    while offset < len(madt):
        entries.setdefault(madt[offset], []).append(madt[offset : offset + madt[offset + 1]])
        offset += madt[offset + 1]
    assert [(entry[3], *struct.unpack_from("<I", entry, 4)) for entry in entries[0]] == [
        (0, 1),
        (1, 1),
        (2, 2),
    ]
    assert [struct.unpack_from("<II", entry, 4) for entry in entries[1]] == [(0xFEC0_0000, 0)]


def test_acpi_too_many_processors_are_one_line() -> None:
    with pytest.raises(BootError, match="use fewer vCPUs"):
        tables.build(make_layout(Arch.X86_64), make_platform(Arch.X86_64, 4000), _WINDOW)


def test_acpi_incomplete_platform_is_one_line() -> None:
    layout = make_layout(Arch.X86_64)
    with pytest.raises(BootError, match="names no reset port"):
        tables.build(
            layout, make_platform(Arch.X86_64, ports={"sleep_control": 1, "sleep_status": 2}), _WINDOW
        )
    foreign = make_platform(Arch.X86_64, interrupt_controller=InterruptController("8259", {}, range(16)))
    with pytest.raises(BootError, match="'8259'"):
        tables.build(layout, foreign, Window(0, 1 << 20))


@given(st.integers(0, (1 << 28) - 5))
def test_aml_package_length_any_size_decodes_to_itself(size: int) -> None:
    encoded = aml.package_length(size)
    lead = encoded[0]
    if lead >> 6 == 0:
        total = lead & 0x3F
    else:
        assert lead & 0x30 == 0
        total = lead & 0xF | int.from_bytes(encoded[1:], "little") << 4
    assert len(encoded) == 1 + (lead >> 6)
    assert total == len(encoded) + size


def test_aml_package_length_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        aml.package_length(1 << 28)


@given(st.integers(0, (1 << 64) - 1))
def test_aml_integer_any_value_decodes_to_itself(value: int) -> None:
    encoded = aml.integer(value)
    assert int.from_bytes(encoded if value < 2 else encoded[1:], "little") == value
    assert len(encoded) <= 9


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_aml_integer_out_of_range_is_refused(value: int) -> None:
    with pytest.raises((ValueError, struct.error)):
        aml.integer(value)


@pytest.mark.parametrize("name", ["", "abcd", "TOOLONG", "1ABC", "A-B"])
def test_aml_segment_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not an ACPI name"):
        aml.segment(name)


def test_aml_eisa_id_is_encoded_as_in_the_specification() -> None:
    assert aml.eisa_id("PNP0501") == b"\x0c\x41\xd0\x05\x01"
    with pytest.raises(ValueError, match="EISA"):
        aml.eisa_id("pnp0501")
