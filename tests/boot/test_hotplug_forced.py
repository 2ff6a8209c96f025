# SPDX-License-Identifier: MIT
"""Devices that are taken away by force while the guest is at them: nothing in it waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from control import Control, Person
from guest import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from guest import Guest, Image

DISK_BYTES = 4 << 20
LOADS = 4
#: Readers and a writer past the page cache, each until its first error.
LOAD = (
    "load() { while dd if=/dev/vda of=/dev/null bs=4k iflag=direct; do :; done; }; "
    "fill() { while dd if=/dev/zero of=/dev/vda bs=64k oflag=direct conv=notrunc; do :; done; }; "
)
START = f"cd /tmp; {LOAD} fill 2>fill & for n in $(seq {LOADS}); do load 2>load$n & done; sleep 1"


@pytest.fixture(scope="module", params=["driver", "stock"])
def guest(
    request: pytest.FixtureRequest, arch_image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    options = ["--no-power"] if request.param == "stock" else []
    with running(arch_image, tmp_path_factory.mktemp(arch_image.name), *options) as found:
        yield found


@pytest.fixture
def stock(request: pytest.FixtureRequest) -> bool:
    return "stock" in request.node.name


def plug(guest: Guest, device: str, *, stock: bool) -> int:
    if not stock:
        return Control(guest).plug(device)
    person = Person(guest)
    slot = person.plug(device)
    person.close()
    return slot


def let_go(guest: Guest, slot: int, *, stock: bool) -> None:
    """Have the guest let go of a lost device, where its driver does not do that by itself."""
    control = Control(guest)
    if stock:
        (there,) = (each for each in control.status()["slots"] if each["slot"] == slot)
        assert there["lost"]
        person = Person(guest)
        person.unplug(slot)
        person.close()
    assert slot not in [each["slot"] for each in control.status()["slots"]]


def quiet(guest: Guest) -> None:
    """Nothing in the guest waits for a device, or broke."""
    assert guest.run("grep -l 'State:.D (disk' /proc/[0-9]*/status 2>/dev/null", check=False) == ""
    assert guest.run("dmesg | grep -E 'BUG:|Oops|WARNING: CPU|hung task'", check=False) == ""


def test_disk_taken_by_force_under_load_ends_every_request(
    guest: Guest, tmp_path: Path, *, stock: bool
) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(DISK_BYTES))
    slot = plug(guest, f"disk:{disk}", stock=stock)
    guest.until("/etc/vdesktop/drivers; [ -b /dev/vda ]")
    guest.run("yes | head -c 65536 | dd of=/dev/vda bs=64k seek=63 iflag=fullblock oflag=direct 2>/dev/null")
    guest.run(f"dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null; {START}")
    Control(guest)("unplug", str(slot), "--force")
    left = disk.read_bytes()
    guest.run("wait")
    for each in ("fill", *(f"load{n + 1}" for n in range(LOADS))):
        assert guest.run(f"grep -cE 'rror|annot|an.t open' /tmp/{each}") != "0"
    let_go(guest, slot, stock=stock)
    guest.until("[ ! -e /dev/vda ]")
    assert len(left) == DISK_BYTES
    assert disk.read_bytes() == left, "nothing touches the image after it was taken away"
    quiet(guest)


def test_network_card_taken_by_force_leaves_nobody_waiting(guest: Guest, *, stock: bool) -> None:
    slot = plug(guest, "net:user", stock=stock)
    guest.until("/etc/vdesktop/drivers; [ -e /sys/class/net/eth0 ]")
    guest.run("ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0")
    guest.run("(ping -c 30 -i 0.1 10.0.2.2 >/dev/null 2>&1) & sleep 1")
    Control(guest)("unplug", str(slot), "--force")
    # Commands on the control queue: Linux waits for their answers in a loop.
    guest.run("ip link set eth0 promisc on; ip link set eth0 down; wait; true")
    let_go(guest, slot, stock=stock)
    guest.until("[ ! -e /sys/class/net/eth0 ]")
    quiet(guest)
