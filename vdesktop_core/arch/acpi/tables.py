# SPDX-License-Identifier: MIT
"""The ACPI tables of an x86_64 machine: hardware-reduced, so that it needs no PIC, PIT, PM timer or SMI.

Section numbers are those of ACPI 6.5.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vdesktop_core.acpi_events import EVENT_POWER_BUTTON, EVENT_SLOTS, SIZE
from vdesktop_core.arch.acpi import aml
from vdesktop_core.arch.memory_map import RESET_VALUE, S5_SLEEP_TYPE, SLOT_SIZE, Window
from vdesktop_core.errors import BootError
from vdesktop_core.hypervisor import IrqTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.arch.boot import EventsLayout, MachineLayout, SlotLayout
    from vdesktop_core.hypervisor import Platform

_OEM_ID = b"VDESK "
_OEM_TABLE_ID = b"VDESKTOP"
_CREATOR_ID = b"VDTP"

_HEADER = struct.Struct("<4sIBB6s8sI4sI")
_ALIGN = 64
_SYSTEM_IO = 1
_BYTE_ACCESS = 1

# FADT (§5.2.9)
_FADT_REVISION, _FADT_MINOR = 6, 5
_FADT_SIZE = 276
_FADT_WBINVD = 1 << 0
_FADT_PWR_BUTTON = 1 << 4  # no fixed-hardware power button
_FADT_SLP_BUTTON = 1 << 5  # nor a sleep button
_FADT_RESET_REG_SUP = 1 << 10
_FADT_HW_REDUCED = 1 << 20
# IA-PC boot architecture flags (§5.2.9.3)
_IAPC_VGA_NOT_PRESENT = 1 << 2
_IAPC_MSI_NOT_SUPPORTED = 1 << 3
_IAPC_PCIE_ASPM = 1 << 4
_IAPC_CMOS_RTC_NOT_PRESENT = 1 << 5

# MADT (§5.2.12)
_MADT_LAPIC, _MADT_IOAPIC, _MADT_X2APIC = 0, 1, 9
_LAPIC_ENABLED, _LAPIC_ONLINE_CAPABLE = 1 << 0, 1 << 1
_XAPIC_ID_LIMIT = 255


def build(layout: MachineLayout, platform: Platform, window: Window) -> bytes:
    """Build all tables as one blob to be placed at ``window.base``; the RSDP comes first.

    Raises:
        BootError: the backend's interrupt controller or ports cannot be described, or there is no room.
    """
    if platform.interrupt_controller.kind != "ioapic":
        raise BootError(f"interrupt controller {platform.interrupt_controller.kind!r} is not an ioapic")
    blob = bytearray(_ALIGN)

    def put(table: bytes) -> int:
        address = window.base + len(blob)
        blob.extend(table)
        blob.extend(bytes(-len(blob) % _ALIGN))
        return address

    dsdt = put(_table(b"DSDT", 2, _dsdt(layout, platform)))
    fadt = put(_fadt(platform, dsdt))
    madt = put(_madt(layout, platform))
    xsdt = put(_table(b"XSDT", 1, struct.pack("<QQ", fadt, madt)))
    rsdp = _rsdp(xsdt)
    blob[: len(rsdp)] = rsdp
    if len(blob) > window.size:
        raise BootError(f"the ACPI tables have {len(blob)} bytes, {window.size} are allowed: use fewer vCPUs")
    return bytes(blob)


def _checksum(data: bytes | bytearray) -> int:
    return -sum(data) & 0xFF


def _table(signature: bytes, revision: int, body: bytes) -> bytes:
    """Put the System Description Table Header (§5.2.6) before a body."""
    size = _HEADER.size + len(body)
    header = _HEADER.pack(signature, size, revision, 0, _OEM_ID, _OEM_TABLE_ID, 1, _CREATOR_ID, 1)
    table = bytearray(header + body)
    table[9] = _checksum(table)
    return bytes(table)


def _rsdp(xsdt: int) -> bytes:
    """Root System Description Pointer (§5.2.5.3), without an RSDT."""
    rsdp = bytearray(struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, _OEM_ID, 2, 0, 36, xsdt, 0))
    rsdp[8] = _checksum(rsdp[:20])
    rsdp[32] = _checksum(rsdp)
    return bytes(rsdp)


def _gas(port: int) -> bytes:
    """Generic Address Structure (§5.2.3.2) of a byte-wide I/O port."""
    return struct.pack("<BBBBQ", _SYSTEM_IO, 8, 0, _BYTE_ACCESS, port)


def _fadt(platform: Platform, dsdt: int) -> bytes:
    """Fixed ACPI Description Table (§5.2.9). Fields by their offset in the table."""
    try:
        sleep_control, sleep_status, reset = (
            platform.ports[name] for name in ("sleep_control", "sleep_status", "reset")
        )
    except KeyError as error:
        raise BootError(
            f"the backend names no {error.args[0]} port: its Platform.ports is incomplete"
        ) from error
    fadt = bytearray(_FADT_SIZE)
    flags = _FADT_WBINVD | _FADT_PWR_BUTTON | _FADT_SLP_BUTTON | _FADT_RESET_REG_SUP | _FADT_HW_REDUCED
    boot_flags = (
        _IAPC_VGA_NOT_PRESENT | _IAPC_MSI_NOT_SUPPORTED | _IAPC_PCIE_ASPM | _IAPC_CMOS_RTC_NOT_PRESENT
    )
    struct.pack_into("<I", fadt, 40, dsdt)
    struct.pack_into("<H", fadt, 109, boot_flags)
    struct.pack_into("<I", fadt, 112, flags)
    fadt[116:128] = _gas(reset)
    fadt[128] = RESET_VALUE
    fadt[131] = _FADT_MINOR
    struct.pack_into("<Q", fadt, 140, dsdt)
    fadt[244:256] = _gas(sleep_control)
    fadt[256:268] = _gas(sleep_status)
    fadt[268:276] = _OEM_TABLE_ID  # hypervisor vendor identity
    return _table(b"FACP", _FADT_REVISION, bytes(fadt[_HEADER.size :]))


def _madt(layout: MachineLayout, platform: Platform) -> bytes:
    """Multiple APIC Description Table (§5.2.12): no PCAT_COMPAT, for there are no 8259s."""
    regions = platform.interrupt_controller.regions
    entries = [struct.pack("<II", regions["lapic"][0], 0)]
    for index, apic_id in enumerate(platform.cpu_ids):
        flags = _LAPIC_ENABLED if index < layout.vcpus else _LAPIC_ONLINE_CAPABLE
        if apic_id < _XAPIC_ID_LIMIT and index < _XAPIC_ID_LIMIT:
            entries.append(struct.pack("<BBBBI", _MADT_LAPIC, 8, index, apic_id, flags))
        else:
            entries.append(struct.pack("<BBHIII", _MADT_X2APIC, 16, 0, apic_id, flags, index))
    entries.append(struct.pack("<BBBBII", _MADT_IOAPIC, 12, 0, 0, regions["ioapic"][0], 0))
    return _table(b"APIC", 5, b"".join(entries))


def _dsdt(layout: MachineLayout, platform: Platform) -> bytes:
    r"""Differentiated System Description Table: processors, the UART, the slots, and ``\_S5``."""
    devices = [_processor(index) for index in range(len(platform.cpu_ids))]
    level = platform.interrupt_controller.trigger is IrqTrigger.LEVEL
    if layout.uart is not None:
        devices.append(_uart(layout.uart.base, layout.uart.line, level=level))
    devices.append(_slots(layout.slots, level=level, seen=layout.events is not None))
    if layout.events is not None:
        devices += _events(layout.events, [slot.index for slot in layout.slots])
    sleep = aml.package(*(aml.integer(value) for value in (S5_SLEEP_TYPE, 0, 0, 0)))
    return aml.scope("_SB", *devices) + aml.name("_S5", sleep)


def ssdt(slots: Sequence[SlotLayout], *, level: bool = True) -> bytes:
    """Build a Secondary System Description Table with slots alone, for machines that have other tables."""
    return _table(b"SSDT", 2, aml.scope("_SB", _slots(slots, level=level, seen=False)))


def _slots(slots: Sequence[SlotLayout], *, level: bool, seen: bool) -> bytes:
    """All slots in a generic container: one Notify() to it has the guest look at them again."""
    lines = [slot.line for slot in slots]
    nodes = [_slot(slot, level=level, shared=lines.count(slot.line) > 1, seen=seen) for slot in slots]
    return aml.device(
        "VIO", aml.name("_HID", aml.string("ACPI0004")), aml.name("_UID", aml.integer(0)), *nodes
    )


def _processor(index: int) -> bytes:
    return aml.device(
        f"C{index:03X}",
        aml.name("_HID", aml.string("ACPI0007")),
        aml.name("_UID", aml.integer(index)),
    )


def _uart(port: int, line: int, *, level: bool) -> bytes:
    return aml.device(
        "COM1",
        aml.name("_HID", aml.eisa_id("PNP0501")),
        aml.name("_UID", aml.integer(1)),
        aml.name("_CRS", aml.resources(aml.io(port, 8), aml.interrupt(line, level=level, shared=False))),
    )


#: Names of the event registers' region and of the word of pending events.
_REGION, _PENDING = "EREG", "EPND"
#: Notification values: of any device, look again (§5.6.6, bus check); of a power button, pressed.
_BUS_CHECK, _PRESSED = 0x00, 0x80
#: _STA (§6.3.7): present, enabled, shown, working.
_PRESENT = 0xF


def _seen(slot: int) -> str:
    """Name the bit that says whether a slot is to be seen."""
    return f"S{slot:03X}"


def _events(events: EventsLayout, slots: list[int]) -> list[bytes]:
    """Describe the registers, the power button, and the event device (GED, §5.6.9) that reads and tells."""
    pending = aml.segment(_PENDING)
    method = aml.method(
        "_EVT",
        1,
        # What happens from here on raises the line again.
        aml.store(pending, aml.LOCAL0),
        aml.store(aml.LOCAL0, pending),
        aml.if_(
            aml.bit_and(aml.LOCAL0, aml.integer(EVENT_SLOTS)), aml.notify(aml.segment("VIO"), _BUS_CHECK)
        ),
        aml.if_(
            aml.bit_and(aml.LOCAL0, aml.integer(EVENT_POWER_BUTTON)),
            aml.notify(aml.segment("PWRB"), _PRESSED),
        ),
        serialized=True,
    )
    crs = aml.resources(aml.interrupt(events.line, level=True, shared=False))
    return [
        aml.memory_region(_REGION, events.base, SIZE),
        aml.dword_field(_REGION, (_PENDING, 32), *((_seen(slot), 1) for slot in slots)),
        aml.device("PWRB", aml.name("_HID", aml.eisa_id("PNP0C0C")), aml.name("_UID", aml.integer(0))),
        aml.device(
            "GED",
            aml.name("_HID", aml.string("ACPI0013")),
            aml.name("_UID", aml.integer(0)),
            aml.name("_CRS", crs),
            method,
        ),
    ]


def _slot(slot: SlotLayout, *, level: bool, shared: bool, seen: bool) -> bytes:
    crs = aml.resources(
        aml.memory32_fixed(slot.base, SLOT_SIZE), aml.interrupt(slot.line, level=level, shared=shared)
    )
    return aml.device(
        f"V{slot.index:03X}",
        aml.name("_HID", aml.string("LNRO0005")),
        aml.name("_UID", aml.integer(slot.index)),
        aml.name("_CCA", aml.integer(1)),
        aml.name("_CRS", crs),
        *(() if not seen else (_slot_status(slot.index),)),
    )


def _slot_status(slot: int) -> bytes:
    bit = aml.segment(_seen(slot))
    return aml.method(
        "_STA", 0, aml.if_(bit, aml.return_(aml.integer(_PRESENT))), aml.return_(aml.integer(0))
    )
