# SPDX-License-Identifier: MIT
"""What is printed from virtio-power's messages: the driver's header, and the specification's tables.

``python -m vdesktop_core.devices.power.documents FOLDER`` writes both into a source folder.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from vdesktop_core.devices.power import wire

HEADER = Path("guest/linux/virtio_power/virtio_power.h")
SPECIFICATION = Path("docs/spec/virtio-power.md")

_PREFIX = "VIRTIO_POWER_"
#: Names in C, and the numbers.
_CODES: dict[str, type[wire.Code]] = {
    "F": wire.Feature,
    "EMERGENCY": wire.Emergency,
    "REQ": wire.RequestType,
    "S": wire.Status,
    "EVENT": wire.EventKind,
    "ACTION": wire.Action,
    "SLOT": wire.SlotState,
    "CPU": wire.CpuState,
    "VERDICT": wire.Verdict,
    "REASON": wire.Reason,
    "REGION": wire.RegionKind,
    "MACHINE": wire.Machine,
    "INTC": wire.InterruptController,
    "TIMER": wire.Timer,
}
_CONSTANTS = {
    "REVISION": wire.REVISION,
    "VQ_REQUEST": wire.REQUEST_QUEUE,
    "VQ_EVENT": wire.EVENT_QUEUE,
    "REQUEST_MAX": wire.REQUEST_MAX,
}
LAYOUTS = tuple(value for value in vars(wire).values() if isinstance(value, wire.Layout))

_TOP = """\
/* SPDX-License-Identifier: MIT */
/*
 * virtio-power: what goes between the device and its driver.
 * Printed by vdesktop_core.devices.power.documents; not edited by hand.
 */
/* clang-format off */
#ifndef _VIRTIO_POWER_H
#define _VIRTIO_POWER_H

#include <linux/types.h>

"""


def header() -> str:
    """Return the C header."""
    out = [_TOP, f"#define VIRTIO_ID_POWER {wire.VIRTIO_ID:#x}\n"]
    out += [f"#define {_PREFIX}{name} {value}\n" for name, value in _CONSTANTS.items()]
    for prefix, codes in _CODES.items():
        out.append("\n")
        out += [f"#define {_PREFIX}{prefix}_{code.name} {int(code):#x}\n" for code in codes]
    for layout in LAYOUTS:
        out.append(f"\nstruct virtio_power_{layout.name} {{\n")
        for field in layout.fields:
            kind, _, length = field.type.partition("[")
            suffix = f"[{length}" if length else ""
            out.append(f"\t__{kind} {field.name}{suffix};\n")
        out.append("};\n")
    out.append("\n#endif\n")
    return "".join(out)


def table(name: str) -> str:
    """Return a table of the specification: a structure's fields, or a set of codes by its name in C."""
    if name in _CODES:
        rows = [f"| {int(code)} | {_PREFIX}{name}_{code.name} | {code.summary} |" for code in _CODES[name]]
        return "\n".join(["| value | name | meaning |", "|---|---|---|", *rows, ""])
    layout = next(layout for layout in LAYOUTS if layout.name == name)
    rows, offset = [], 0
    for field in layout.fields:
        rows.append(f"| {offset} | {field.type} | `{field.name}` | {field.summary} |")
        offset += wire.Layout("", field).size
    title = f"`struct virtio_power_{name}`, {layout.size} bytes:\n"
    return "\n".join([title, "| offset | type | field | meaning |", "|---|---|---|---|", *rows, ""])


_BLOCK = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def specification(page: str) -> str:
    """Return the specification's page with its tables printed anew."""
    return _BLOCK.sub(lambda m: f"{m[1]}{table(m[2])}{m[3]}", page)


def tables_in(page: str) -> set[str]:
    """Return the names of the tables that a page has."""
    return {match[2] for match in _BLOCK.finditer(page)}


def table_names() -> set[str]:
    """Return the names of all tables."""
    return {layout.name for layout in LAYOUTS} | set(_CODES)


def main(root: Path) -> None:
    """Write both into a source folder."""
    (root / HEADER).write_text(header(), encoding="utf-8")
    page = root / SPECIFICATION
    page.write_text(specification(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
