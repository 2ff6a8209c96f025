# SPDX-License-Identifier: MIT
"""virtio-power and its Linux driver, in stock Debian guests."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from control import PATIENCE, Control
from guest import find_image, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from guest import Guest, Image

MEBIBYTE = 1 << 20
CPUS = 2
#: With one that the guest's kernel does not start.
MOST_CPUS = 3
DRIVER = "/sys/bus/virtio/drivers/virtio_power"
#: What a kernel says when something went wrong in it.
COMPLAINTS = "dmesg | grep -E 'BUG|Oops|WARNING: CPU|hung task|sysfs: cannot'"


class Powered:
    """A booted guest with the driver, and its control."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.control = Control(guest)

    def read(self, path: str) -> str:
        """Read a file of the driver's in sysfs."""
        return self.guest.run(f"cat {DRIVER}/virtio*/{path}")

    def plug_disk(self, disk: Path, options: str = "") -> int:
        disk.write_bytes(bytes(8 * MEBIBYTE))
        slot = self.control.plug(f"disk:{disk}{options}")
        self.appears("[ -b /dev/vda ]")
        return slot

    def appears(self, condition: str) -> None:
        """Wait for a device; its driver's module is loaded as udev does it in a larger guest."""
        self.guest.until(f"/etc/vdesktop/drivers && {condition}")

    def complaints(self) -> str:
        return self.guest.run(COMPLAINTS, check=False)


@pytest.fixture(scope="module")
def powered(arch_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Powered]:
    options = ("--cpus", str(CPUS), "--max-cpus", str(MOST_CPUS))
    with running(arch_image, tmp_path_factory.mktemp(arch_image.name), *options) as guest:
        yield Powered(guest)


def test_power_enumeration_in_the_guest_is_the_machine(powered: Powered) -> None:
    status = powered.control.status()
    assert powered.read("machine/arch") == status["arch"]
    assert powered.read("machine/name") == status["name"]
    assert int(powered.read("machine/timer_hz")) > 0
    slots = {slot["slot"]: slot for slot in status["slots"]}
    names = powered.guest.run(f"cd {DRIVER}/virtio*/slots; for s in $(seq 0 31); do cat $s/name; done").split(
        "\n"
    )
    ids = powered.guest.run(
        f"cd {DRIVER}/virtio*/slots; for s in $(seq 0 31); do cat $s/device_id; done"
    ).split()
    for index in range(32):
        slot = slots.get(index)
        assert names[index] == (slot["name"] if slot else "")
        assert int(ids[index]) == (slot["virtio_id"] if slot else 0)
        if slot:
            assert int(powered.read(f"slots/{index}/base"), 16) == slot["address"]
            assert int(powered.read(f"slots/{index}/line")) == slot["line"]
            assert powered.read(f"slots/{index}/state") == "filled"
    for index in range(MOST_CPUS):
        assert powered.read(f"cpus/{index}/state") == ("online" if index < CPUS else "offline")
        assert int(powered.read(f"cpus/{index}/hardware_id"), 16) == status["cpus"]["ids"][index]
    sizes = powered.guest.run(
        f"cd {DRIVER}/virtio*/regions; "
        "for r in *; do [ $(cat $r/kind) = ram ] && echo $(($(cat $r/size))); done; true"
    )
    assert sum(map(int, sizes.split())) == status["memory"]
    assert powered.complaints() == ""


def test_power_disk_is_plugged_written_and_unplugged(powered: Powered, tmp_path: Path) -> None:
    guest, disk = powered.guest, tmp_path / "disk.img"
    slot = powered.plug_disk(disk)
    assert powered.read(f"slots/{slot}/state") == "filled"
    # Not synced: that is what letting go of a disk does.
    guest.run("dd if=/dev/urandom of=/dev/vda bs=1M count=8 2>/dev/null")
    written = guest.run("sha256sum </dev/vda").split()[0]
    powered.control("unplug", str(slot), "--timeout", str(PATIENCE))
    guest.until("[ ! -e /dev/vda ]")
    assert hashlib.sha256(disk.read_bytes()).hexdigest() == written
    assert powered.read(f"slots/{slot}/state") == "empty"
    assert powered.complaints() == ""


def test_power_card_is_plugged_used_and_unplugged(powered: Powered) -> None:
    guest = powered.guest
    slot = powered.control.plug("net:user")
    powered.appears("[ -e /sys/class/net/eth0 ]")
    guest.run("ip link set eth0 up && udhcpc -i eth0 -n -q -s /etc/vdesktop/dhcp >/dev/null 2>&1")
    guest.network()
    guest.run("ping -c 1 10.0.2.2 >/dev/null")
    powered.control("unplug", str(slot), "--timeout", str(PATIENCE))
    guest.until("[ ! -e /sys/class/net/eth0 ]")
    assert powered.complaints() == ""


def test_power_cpus_go_down_and_up(powered: Powered) -> None:
    control, guest = powered.control, powered.guest
    assert guest.run("nproc") == str(CPUS)
    for _ in range(3):
        control("cpus", "1", "--timeout", str(PATIENCE))
        assert guest.run("nproc") == "1"
        guest.until(f"grep -q offline {DRIVER}/virtio*/cpus/1/state")
        control("cpus", str(MOST_CPUS), "--timeout", str(PATIENCE))
        assert guest.run("nproc") == str(MOST_CPUS)
    control("cpus", str(CPUS), "--timeout", str(PATIENCE))
    guest.run("echo 0 >/sys/devices/system/cpu/cpu1/online")  # the host hears of what a person does, too
    guest.until(f"grep -q offline {DRIVER}/virtio*/cpus/1/state")
    guest.run("echo 1 >/sys/devices/system/cpu/cpu1/online")
    guest.until(f"grep -q online {DRIVER}/virtio*/cpus/1/state")
    assert powered.complaints() == ""


def test_power_device_taken_by_force_is_lost_to_the_guest_alone(powered: Powered, tmp_path: Path) -> None:
    guest, disk = powered.guest, tmp_path / "disk.img"
    slot = powered.plug_disk(disk)
    guest.run("dd if=/dev/urandom of=/dev/vda bs=64k count=1 conv=fsync 2>/dev/null")
    written = guest.run("head -c 65536 /dev/vda | sha256sum").split()[0]
    powered.control("unplug", str(slot), "--force")
    guest.until("[ ! -e /dev/vda ]")
    assert hashlib.sha256(disk.read_bytes()[:65536]).hexdigest() == written
    powered.plug_disk(tmp_path / "next.img", f",slot={slot}")
    powered.control("unplug", str(slot), "--timeout", str(PATIENCE))
    assert powered.complaints() == ""


def test_power_driver_is_unloaded_and_loaded_again(powered: Powered, tmp_path: Path) -> None:
    guest, control = powered.guest, powered.control
    guest.run("rmmod virtio_power")
    assert control.status()["ways"]["cpus"] == "none"
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(MEBIBYTE))
    slot = control.plug(f"disk:{disk}")
    guest.run("modprobe virtio_power")
    powered.appears("[ -b /dev/vda ]")
    assert control.status()["ways"]["cpus"] == "virtio-power"
    control("unplug", str(slot), "--timeout", str(PATIENCE))
    guest.until("[ ! -e /dev/vda ]")
    assert powered.complaints() == ""


def test_power_host_asks_for_an_orderly_shutdown(arch_image: Image, tmp_path: Path) -> None:
    with running(arch_image, tmp_path) as guest:
        control = Control(guest)
        control("shutdown", "--timeout", str(PATIENCE))
        assert guest.terminal.wait() == 0
        assert b"The system is going down" in guest.terminal.transcript


def test_power_guest_resets_and_powers_off_by_the_device(arch_image: Image, tmp_path: Path) -> None:
    with running(arch_image, tmp_path, "--stats", "json") as guest:
        guest.terminal.send(b"reboot\n")
        guest.boot()
        emergencies = json.loads(Control(guest)("stats", "--json"))["power0"]["emergencies"]
        assert emergencies == 1
        assert guest.power_off() == 0
        statistics = json.loads(guest.terminal.error_text().splitlines()[-1])
        assert statistics["power0"]["emergencies"] == 2


def test_power_panic_is_reported(arch_image: Image, tmp_path: Path) -> None:
    with running(arch_image, tmp_path, "--no-reboot") as guest:
        guest.run("echo 1 >/proc/sys/kernel/panic")
        guest.terminal.send(b"echo c >/proc/sysrq-trigger\n")
        # A kernel with Xen's drivers does not reset then: it tells Xen of a crash, which ends its domain.
        assert guest.terminal.wait() == (1 if arch_image.backend == "xen" else 10)
        assert "crashed: sysrq triggered crash" in guest.terminal.error_text()


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_power_driver_works_on_an_older_kernel(
    request: pytest.FixtureRequest, arch: str, tmp_path: Path
) -> None:
    """Debian 12's: Linux 6.1, the oldest that the driver is for."""
    image = find_image(arch, "bookworm", request.config.getoption("--backend"))
    with running(image, tmp_path, "--cpus", str(CPUS)) as guest:
        powered = Powered(guest)
        assert powered.read("machine/arch") == arch
        for turn in range(2):
            disk = tmp_path / f"disk{turn}.img"
            slot = powered.plug_disk(disk)
            guest.run("dd if=/dev/urandom of=/dev/vda bs=1M count=8 2>/dev/null")
            written = guest.run("sha256sum </dev/vda").split()[0]
            powered.control("unplug", str(slot), "--timeout", str(PATIENCE))
            assert hashlib.sha256(disk.read_bytes()).hexdigest() == written
            powered.control("cpus", "1", "--timeout", str(PATIENCE))
            powered.control("cpus", str(CPUS), "--timeout", str(PATIENCE))
            guest.run("rmmod virtio_power; modprobe virtio_power")
        slot = powered.plug_disk(tmp_path / "lost.img")
        guest.run("(while dd if=/dev/vda of=/dev/null bs=4k iflag=direct 2>/dev/null; do :; done) & sleep 1")
        powered.control("unplug", str(slot), "--force")
        guest.until("[ ! -e /dev/vda ]")
        assert powered.complaints() == ""
        powered.control("shutdown", "--timeout", str(PATIENCE))
        assert guest.terminal.wait() == 0
