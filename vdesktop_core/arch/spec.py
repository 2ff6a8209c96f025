# SPDX-License-Identifier: MIT
"""Print the memory maps as the specification's page.

``python -m vdesktop_core.arch.spec > docs/spec/memory-map.md``
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vdesktop_core.arch.memory_map import (
    GIB,
    KIB,
    MIB,
    RAM_GRANULE,
    RAM_MINIMUM,
    RESET_VALUE,
    S5_SLEEP_TYPE,
    SLOT_COUNT,
    SLOT_SIZE,
    MemoryMap,
    Window,
    memory_map,
)
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LINE_NAMES = {Arch.X86_64: "GSI", Arch.AARCH64: "SPI", Arch.RISCV64: "PLIC source"}

_HEAD = f"""\
# Memory maps

<!-- Printed by `python -m vdesktop_core.arch.spec`; do not edit. -->

The recommended map of each architecture. Addresses are guest-physical. A guest finds everything by
[discovery](discovery.md) and relies on no address of this page; hypervisors and tools may.

* A slot is {SLOT_SIZE} bytes, so that a hypervisor can trap, protect or pass through each one. There are
  {SLOT_COUNT} of them; slot *i* lies at `slots + i * {SLOT_SIZE:#x}` and uses interrupt line
  `lines[i mod n]` of the *n* recommended lines that the hypervisor has.
* RAM is at least {RAM_MINIMUM // MIB} MiB, a multiple of {RAM_GRANULE // MIB} MiB, and fills its
  windows in order.
* A window that a machine does not use (no UART, no framebuffer, another interrupt controller) stays empty.
"""


def _size(size: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _row(name: str, window: Window) -> list[str]:
    return [name, f"`{window.base:#x}`", f"`{window.end - 1:#x}`", _size(window.size)]


def _architecture(m: MemoryMap) -> str:
    windows = [("RAM", window) for window in m.ram]
    windows += [(name.upper(), window) for name, window in m.interrupt_controller.items()]
    windows += [("virtio-mmio slots", m.slots), ("shared memory and boot framebuffer", m.aperture)]
    if m.events is not None:
        windows.append(("ACPI event registers", m.events.window))
    if m.rtc is not None:
        windows.append((f"real-time clock ({m.rtc.model})", m.rtc.window))
    if not m.uart.is_port:
        windows.append(("UART (16550), optional", m.uart.window))
    rows = [_row(name, window) for name, window in sorted(windows, key=lambda item: item[1])]
    parts = [f"\n## {m.arch}\n", _table(("what", "first", "last", "size"), rows)]
    name = _LINE_NAMES[m.arch]
    lines = [
        ["slot *i*", f"{name} {m.slot_lines.start} + *i*"],
        ["UART", f"{name} {m.uart.line}"],
    ]
    if m.events is not None:
        lines.append(["ACPI events", f"{name} {m.events.line}"])
    if m.rtc is not None:
        lines.append(["real-time clock", f"{name} {m.rtc.line}"])
    parts.append(_table(("interrupt line", "number"), lines))
    if m.ports:
        ports = [
            [
                "sleep control",
                f"`{m.ports['sleep_control']:#x}`",
                f"a guest powers off by writing `{_s5():#x}`",
            ],
            ["sleep status", f"`{m.ports['sleep_status']:#x}`", "reads 0; writes are ignored"],
            ["reset", f"`{m.ports['reset']:#x}`", f"a guest resets by writing `{RESET_VALUE:#x}`"],
        ]
        if m.uart.is_port:
            window = m.uart.window
            ports.append(["UART (16550), optional", f"`{window.base:#x}` to `{window.end - 1:#x}`", ""])
        parts.append(_table(("port", "number", "meaning"), ports))
    if m.boot_data:
        rows = [_row(key.replace("_", " "), window) for key, window in m.boot_data.items()]
        parts.append("What the loader leaves in RAM, free for the guest once it has read it:\n")
        parts.append(_table(("what", "first", "last", "size"), rows))
    return "\n".join(parts)


def _s5() -> int:
    # SLP_TYP in bits 2 to 4, SLP_EN in bit 5 (ACPI 6.5 §4.8.3.7).
    return S5_SLEEP_TYPE << 2 | 1 << 5


def page() -> str:
    """Return the page ``docs/spec/memory-map.md``."""
    return _HEAD + "".join(_architecture(memory_map(arch)) for arch in Arch)


if __name__ == "__main__":
    sys.stdout.write(page())
