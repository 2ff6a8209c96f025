# SPDX-License-Identifier: MIT
"""The network, console and disk format of examples/vdesktop-extras, in booted guests."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING

import pytest
from guest import ROOT

from vdesktop_core.config import BootConfig, MachineConfig
from vdesktop_core.hooks import plugin_manager
from vdesktop_core.machine import Machine, Outcome, installed

if TYPE_CHECKING:
    from pathlib import Path

    from guest import Image

    from vdesktop_core.board import Plugins

PATIENCE = 200
#: A megabyte of numbers, and its checksum, made alike by the guest and here.
LISTEN = "nc -l -p 7000 | sha256sum"
SEND = (
    "seq 1 150000 | sha256sum; n=0; "
    "until seq 1 150000 | nc 10.9.0.1 7000 || [ $n -gt 100 ]; do n=$((n+1)); usleep 300000; done"
)


@pytest.fixture
def plugins() -> Plugins:
    """Everything installed, and the example, as if it were."""
    where = ROOT / "examples/vdesktop-extras/vdesktop_extras.py"
    spec = importlib.util.spec_from_file_location("vdesktop_extras", where)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    manager = plugin_manager()
    manager.register(module)
    return installed(manager)


def machine(image: Image, plugins: Plugins, name: str, command: str, *devices: dict[str, object]) -> Machine:
    return Machine(
        MachineConfig(
            name=name,
            arch=image.arch,
            boot=BootConfig(
                kernel=str(image.folder / "kernel"),
                initrd=str(image.folder / "initrd"),
                append=f'quiet console=hvc0 vdesktop.run="{command}; poweroff"',
            ),
            devices=({"type": "rng"}, *devices),
        ),
        plugins=plugins,
    )


def console(path: Path) -> dict[str, object]:
    return {"type": "console", "ports": [{"backend": f"keep:{path}"}]}


async def test_cable_joins_two_machines_of_one_process(
    arch_image: Image, plugins: Plugins, tmp_path: Path
) -> None:
    machines = []
    for number, work in ((1, LISTEN), (2, SEND)):
        up = (
            f"until [ -e /run/network-done ]; do usleep 100000; done; ip addr add 10.9.0.{number}/24 dev eth0"
        )
        card = {"type": "net", "backend": "cable=here"}
        machines.append(
            machine(
                arch_image, plugins, f"end{number}", f"{up}; {work}", console(tmp_path / f"{number}"), card
            )
        )
    results = await asyncio.wait_for(asyncio.gather(*(each.run() for each in machines)), PATIENCE)
    assert [result.outcome for result in results] == [Outcome.SHUTDOWN] * 2
    sums = [
        [
            line.split()[0]
            for line in (tmp_path / f"{number}").read_text().splitlines()
            if line.endswith("  -")
        ]
        for number in (1, 2)
    ]
    assert len(sums[0]) == 1
    assert sums[0] == sums[1]


async def test_scratch_disk_forgets_and_kept_console_does_not(
    arch_image: Image, plugins: Plugins, tmp_path: Path
) -> None:
    disk, output = tmp_path / "disk.scratch", tmp_path / "console"
    content = b"before" + bytes((1 << 20) - 6)
    disk.write_bytes(content)
    command = (
        "dd if=/dev/vda bs=6 count=1 2>/dev/null; echo; echo -n after | dd of=/dev/vda conv=fsync 2>/dev/null"
    )
    for _ in range(2):
        one = machine(
            arch_image, plugins, "scratch", command, console(output), {"type": "blk", "path": str(disk)}
        )
        assert (await asyncio.wait_for(one.run(), PATIENCE)).outcome is Outcome.SHUTDOWN
    assert output.read_text().count("before") == 2
    assert disk.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["console", "disk.scratch"]
