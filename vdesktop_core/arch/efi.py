# SPDX-License-Identifier: MIT
"""What an EFI stub would leave behind, for kernels whose only boot framebuffer driver is ``efifb``.

Debian's riscv64 kernels have FB_EFI, and neither FB_SIMPLE nor DRM_SIMPLEDRM. Outside of x86, ``efifb`` takes
its screen from a configuration table of the EFI system table (``drivers/firmware/efi/efi-init.c``), which
``/chosen`` of the device tree leads to (``Documentation/arch/arm/uefi.rst``). There are no runtime services:
the table of their properties says so. Layouts: UEFI 2.10 §4.2 (tables), §4.6 (properties), §7.2 (memory map).
"""

from __future__ import annotations

import struct
import uuid
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.arch.memory_map import Window
from vdesktop_core.arch.screen_info import SCREEN_INFO_SIZE, screen_info

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vdesktop_core.arch.boot import FramebufferLayout

_PAGE = 4096
_SYSTEM_TABLE = struct.Struct("<QIIII Q I4x 6Q QQ QQ")
_SYSTEM_TABLE_SIGNATURE = 0x5453_5953_2049_4249  # "IBI SYST"
_REVISION = 2 << 16 | 100  # 2.10
_CONFIG_TABLE = struct.Struct("<16s Q")
_SCREEN_INFO_GUID = uuid.UUID("e03fc20a-85dc-406e-b90e-4ab502371d95").bytes_le
_RT_PROPERTIES_GUID = uuid.UUID("eb66918a-7eef-402a-842e-931d21c38ae9").bytes_le
_RT_PROPERTIES = struct.Struct("<HHI")  # version, length, services that are there
_VENDOR = "virtio-desktop\0".encode("utf-16-le")

_DESCRIPTOR = struct.Struct("<I4x QQQQ")
_DESCRIPTOR_VERSION = 1
_CONVENTIONAL, _ACPI_RECLAIM = 7, 9  # the latter is memory, but not given away
_WRITE_BACK = 8


class EfiTables(msgspec.Struct, frozen=True):
    """Tables as they lie in memory.

    Attributes:
        base: guest-physical address of ``data``, and of the system table.
        data: the tables, from ``base`` on.
        map_offset: of the memory map, in ``data``.
        map_size: in bytes.
        descriptor_size: of one entry, in bytes.
        descriptor_version: of its form.
    """

    base: int
    data: bytes
    map_offset: int
    map_size: int
    descriptor_size: int = _DESCRIPTOR.size
    descriptor_version: int = _DESCRIPTOR_VERSION


def efi_tables(screen: FramebufferLayout, ram: Sequence[Window], place: Window) -> EfiTables:
    """Write the tables.

    Args:
        screen: the boot framebuffer.
        ram: all RAM: the kernel takes it from here and not from ``/memory``.
        place: where in it the tables will lie: pages, ``EFI_TABLES_SIZE`` of the loader's.
    """
    config = _SYSTEM_TABLE.size
    info = config + 2 * _CONFIG_TABLE.size
    properties = info + SCREEN_INFO_SIZE
    vendor = properties + _RT_PROPERTIES.size
    memory = -(-(vendor + len(_VENDOR)) // 8) * 8
    header = (_SYSTEM_TABLE_SIGNATURE, _REVISION, _SYSTEM_TABLE.size, 0, 0)
    no_consoles_or_services = (0,) * 8
    entries = b"".join(_memory_map(ram, place))
    data = b"".join(
        (
            _SYSTEM_TABLE.pack(
                *header, place.base + vendor, 0, *no_consoles_or_services, 2, place.base + config
            ),
            _CONFIG_TABLE.pack(_SCREEN_INFO_GUID, place.base + info),
            _CONFIG_TABLE.pack(_RT_PROPERTIES_GUID, place.base + properties),
            screen_info(screen),
            _RT_PROPERTIES.pack(1, _RT_PROPERTIES.size, 0),
            _VENDOR,
        )
    )
    return EfiTables(place.base, data.ljust(memory, b"\0") + entries, memory, len(entries))


def _memory_map(ram: Sequence[Window], place: Window) -> Iterator[bytes]:
    for bank in ram:
        if not bank.contains(place):
            yield _descriptor(_CONVENTIONAL, bank)
            continue
        yield _descriptor(_CONVENTIONAL, Window(bank.base, place.base - bank.base))
        yield _descriptor(_ACPI_RECLAIM, place)
        if place.end < bank.end:
            yield _descriptor(_CONVENTIONAL, Window(place.end, bank.end - place.end))


def _descriptor(kind: int, window: Window) -> bytes:
    return _DESCRIPTOR.pack(kind, window.base, 0, window.size // _PAGE, _WRITE_BACK)
