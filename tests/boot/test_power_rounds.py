# SPDX-License-Identifier: MIT
"""Disks that come and go, again and again, under load, with the driver of virtio-power."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from control import PATIENCE, Control, held, settled
from guest import running

if TYPE_CHECKING:
    from pathlib import Path

    from guest import Image

DISK_BYTES = 256 << 10
#: A hundred where a round is quickest; `--rounds 100` does them on all.
ROUNDS = {"aarch64": 100}


@pytest.mark.timeout(900)
def test_power_a_hundred_rounds_of_plug_and_unplug_under_load_lose_nothing(
    request: pytest.FixtureRequest, arch_image: Image, tmp_path: Path
) -> None:
    rounds = request.config.getoption("--rounds") or ROUNDS.get(arch_image.arch, 10)
    disk = tmp_path / "disk.img"
    before = (0, 0, 0)
    with running(arch_image, tmp_path) as guest:
        control = Control(guest)
        guest.run("modprobe virtio_blk")
        guest.run(
            "load() { while dd if=/dev/vda of=/dev/null bs=4k iflag=direct 2>/dev/null; do :; done; }; "
            f"fill() {{ yes $1 | head -c {DISK_BYTES} | "
            "dd of=/dev/vda bs=64k iflag=fullblock oflag=direct 2>/dev/null; }"
        )
        for number in range(rounds):
            if number == 5:  # allocators and caches have what they keep
                before = held(control.process)
            disk.write_bytes(bytes(DISK_BYTES))
            slot = control.plug(f"disk:{disk}")
            guest.until("[ -b /dev/vda ]")
            guest.run(f"fill round{number:04}; load & load & true")
            control("unplug", str(slot), "--timeout", str(PATIENCE))
            assert disk.read_bytes() == (b"round%04d\n" % number * DISK_BYTES)[:DISK_BYTES]
            guest.run("wait; [ ! -e /dev/vda ]")
        after = held(control.process)
        assert settled(control.process, before[:2]) == before[:2]
        assert after[2] <= before[2] + 4096, f"{before} KiB before, {after} KiB after"
        assert guest.run("dmesg | grep -E 'BUG|Oops|WARNING: CPU|hung task'", check=False) == ""
