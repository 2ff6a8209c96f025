# SPDX-License-Identifier: MIT
"""A stock Debian kernel on KVM: how often it leaves the guest, and an end that it did not choose.

What it does with its devices is in tests/boot, which runs here with ``--backend kvm``.
"""

from __future__ import annotations

import asyncio
import platform
from typing import TYPE_CHECKING

import pytest
from guest import find_image

from vdesktop_core.config import BootConfig, MachineConfig
from vdesktop_core.machine import Machine, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from guest import Image

PATIENCE = 250
READS = 2000
#: MMIO exits of a boot with console, disk and entropy; 393 when this was written.
BOOT_EXITS = 700


@pytest.fixture(scope="module")
def image() -> Image:
    return find_image(platform.machine(), "trixie", "kvm")


def machine(image: Image, console: Path, disk: Path, command: str, words: str = "") -> Machine:
    return Machine(
        MachineConfig(
            name="kvm",
            arch=image.arch,
            backend="kvm",
            boot=BootConfig(
                kernel=str(image.folder / "kernel"),
                initrd=str(image.folder / "initrd"),
                append=f'quiet console=hvc0 {words} vdesktop.run="{command}"',
            ),
            devices=(
                {"type": "console", "ports": [{"backend": f"file:{console}"}]},
                {"type": "blk", "path": str(disk)},
                {"type": "rng"},
            ),
        )
    )


async def test_disk_request_leaves_the_guest_for_its_interrupt_only(image: Image, tmp_path: Path) -> None:
    disk, console = tmp_path / "disk", tmp_path / "console"
    disk.write_bytes(bytes(READS << 12))
    command = f"dd if=/dev/vda of=/dev/null bs=4k count={READS} iflag=direct"
    async with machine(image, console, disk, command) as running:
        await running.start()
        result = await asyncio.wait_for(running.wait(), PATIENCE)
        counters = running.counters()
    assert result.outcome is Outcome.SHUTDOWN, console.read_text()
    assert counters["blk0"]["reads"] >= READS
    interrupts = sum(device.get("irq_raised", 0) for device in counters.values())
    # InterruptStatus is read and InterruptACK written. The kicks, as many as the requests, are not among the
    # exits: the kernel signals them.
    assert counters["vm"]["exits_mmio"] <= BOOT_EXITS + 2 * interrupts, counters


if platform.machine() == "x86_64":

    async def test_triple_fault_of_a_guest_keeps_what_it_wrote(image: Image, tmp_path: Path) -> None:
        disk, console = tmp_path / "disk", tmp_path / "console"
        disk.write_bytes(bytes(1 << 20))
        fill = "yes written | dd of=/dev/vda bs=4k count=64 iflag=fullblock conv=fsync"
        command = f"{fill}; rmmod virtio_power; reboot -f"  # its driver would be the first to reset
        result = await asyncio.wait_for(
            machine(image, console, disk, command, "reboot=triple").run(), PATIENCE
        )
        assert result.outcome is Outcome.CRASH, console.read_text()
        assert result.detail.startswith("triple fault: vCPU 0 rip=0x")
        assert disk.read_bytes()[: 64 << 12] == b"written\n" * (64 << 9)
