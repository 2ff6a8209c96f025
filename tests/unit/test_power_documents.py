# SPDX-License-Identifier: MIT
"""What is printed from virtio-power's messages is up to date: the driver's header, the page's tables."""

from __future__ import annotations

import subprocess
from pathlib import Path

from vdesktop_core.devices.power import documents, wire

ROOT = Path(__file__).parents[2]
UPDATE = "run: python -m vdesktop_core.devices.power.documents ."


def test_power_header_is_that_of_the_code() -> None:
    assert (ROOT / documents.HEADER).read_text(encoding="utf-8") == documents.header(), UPDATE


def test_power_header_has_the_sizes_of_the_code(tmp_path: Path) -> None:
    checks = "".join(
        f'_Static_assert(sizeof(struct virtio_power_{layout.name}) == {layout.size}, "");\n'
        for layout in documents.LAYOUTS
    )
    source = tmp_path / "sizes.c"
    source.write_text(f'#include "{ROOT / documents.HEADER}"\n{checks}')
    compiled = subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Werror", "-fsyntax-only", source], capture_output=True, text=True
    )
    assert compiled.returncode == 0, compiled.stderr


def test_power_specification_s_tables_are_those_of_the_code() -> None:
    page = (ROOT / documents.SPECIFICATION).read_text(encoding="utf-8")
    assert documents.tables_in(page) == documents.table_names()
    assert page == documents.specification(page), UPDATE


def test_power_specification_s_queues_and_sizes_are_those_of_the_code() -> None:
    page = (ROOT / documents.SPECIFICATION).read_text(encoding="utf-8")
    assert f"| {wire.REQUEST_QUEUE} | requestq |" in page
    assert f"| {wire.EVENT_QUEUE} | eventq | buffers of at least {wire.EVENT.size} bytes" in page
    assert f"more than {wire.REQUEST_MAX}" in page
    assert f"{wire.VIRTIO_ID}, as the standard advises" in page
