# SPDX-License-Identifier: MIT
"""Hardware that changes while a stock guest runs, which has no driver of virtio-power."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from control import Person, held, settled
from guest import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from guest import Image

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def person(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    with running(image, tmp_path_factory.mktemp(image.name)) as guest:
        yield Person(guest)


def test_disk_plugged_while_running_is_written_and_its_file_intact(person: Person, tmp_path: Path) -> None:
    guest, disk = person.guest, tmp_path / "disk.img"
    disk.write_bytes(bytes(8 * MEBIBYTE))
    slot = person.plug(f"disk:{disk}")
    guest.until("[ -b /dev/vda ]")
    guest.run("dd if=/dev/urandom of=/dev/vda bs=1M count=8 2>/dev/null; sync")
    written = guest.run("sha256sum </dev/vda").split()[0]
    person.unplug(slot)
    guest.until("[ ! -e /dev/vda ]")
    assert hashlib.sha256(disk.read_bytes()).hexdigest() == written
    assert slot not in [found["slot"] for found in person.control.status()["slots"]]


def test_network_card_plugged_while_running_works(person: Person) -> None:
    guest = person.guest
    slot = person.plug("net:user")
    guest.until("[ -e /sys/class/net/eth0 ]")
    guest.run("ip link set eth0 up && udhcpc -i eth0 -n -q -s /etc/vdesktop/dhcp >/dev/null 2>&1")
    guest.network()
    guest.run("ping -c 1 10.0.2.2 >/dev/null")
    person.unplug(slot)
    guest.until("[ ! -e /sys/class/net/eth0 ]")


def test_guest_that_keeps_a_device_is_reported_and_goes_on_using_it(person: Person, tmp_path: Path) -> None:
    if person.acpi:
        pytest.skip("a guest with ACPI lets go")
    guest, disk = person.guest, tmp_path / "disk.img"
    disk.write_bytes(bytes(MEBIBYTE))
    slot = person.plug(f"disk:{disk},name=kept")
    guest.until("[ -b /dev/vda ]")
    status, line = person.control.refused("unplug", "kept", "--timeout", "0.5")
    assert status == 124
    assert "has not let go of it within 0.5 s" in line
    guest.run("dd if=/dev/vda of=/dev/null bs=1M iflag=direct 2>/dev/null")
    person.unplug(slot)


def test_impossible_requests_are_refused_in_one_line(person: Person, tmp_path: Path) -> None:
    refused = person.control.refused
    for words, complaint in (
        (("unplug", "0"), "a part of the machine"),
        (("unplug", "30"), "slot 30 is empty"),
        (("unplug", "99"), "slot 99 does not exist"),
        (("unplug", "nobody"), "no device is named 'nobody'"),
        (("plug", "rng,slot=1"), "slot 1 has 'console0'"),
        (("plug", "rng,slot=0"), "slot 0 is not in 1..31"),
        (("plug", "rng,slot=32"), "slot 32 is not in 1..31"),
        (("plug", "rng,name=rng0"), "two devices are named 'rng0'"),
        (("plug", "nonsense"), "unknown device type 'nonsense'"),
        (("plug", "rng,colour=red"), "device 'rng'"),
        (("plug", f"disk:{tmp_path / 'absent'}"), "absent"),
        (("cpus", "2"), "has 1 to 1 CPUs"),
        (("cpus", "1"), "nothing in its guest hears of this"),
        (("resume",), "is running"),
    ):
        assert complaint in refused(*words)[1]


def test_slots_run_out_and_come_back(person: Person) -> None:
    control = person.control
    free = control.status()["free_slots"]
    control("plug", *["rng"] * free)
    assert "all slots are occupied" in control.refused("plug", "rng")[1]
    names = [slot["name"] for slot in control.status()["slots"] if slot["slot"] > 2]
    control("unplug", "--force", *names)
    assert control.status()["free_slots"] == free


def test_pause_resume_stats_and_reset_of_the_real_process(person: Person) -> None:
    control, guest = person.control, person.guest
    control("pause")
    assert control.status()["state"] == "paused"
    assert "is paused" in control.refused("pause")[1]
    control("resume")
    assert guest.run("echo $((40+2))") == "42"
    assert "run_ns" in control("stats")
    slot = control.plug("rng,name=stays")
    control("reset")
    guest.boot()
    assert [s["name"] for s in control.status()["slots"] if s["slot"] == slot] == ["stays"]
    control("unplug", "stays", "--force")
