# SPDX-License-Identifier: MIT
"""The ports that C knows are those of the memory map."""

from __future__ import annotations

import re
from pathlib import Path

from vdesktop_core.arch.acpi.tables import RESET_VALUE, S5_SLEEP_TYPE
from vdesktop_core.arch.memory_map import memory_map
from vdesktop_core.hypervisor import Arch

HEADER = Path(__file__).parents[2] / "vdesktop_core/native/include/vdesktop/platform/x86_ports.h"


def constant(name: str) -> int:
    match = re.search(rf"\bVD_X86_{name} = ([^,]+),", HEADER.read_text(encoding="utf-8"))
    assert match, name
    shifted = [[int(number, 0) for number in term.split("<<")] for term in match[1].split("|")]
    return sum(term[0] << (term[1] if term[1:] else 0) for term in shifted)


def test_x86_ports_of_the_header_are_those_of_the_memory_map() -> None:
    ports = memory_map(Arch.X86_64).ports
    assert {name: constant(name.upper()) for name in ports} == dict(ports)


def test_x86_power_values_of_the_header_are_those_of_the_tables() -> None:
    assert constant("RESET_VALUE") == RESET_VALUE
    assert constant("SLEEP_S5") == S5_SLEEP_TYPE << 2 | 1 << 5
