# SPDX-License-Identifier: MIT
"""Hardware that changes while a stock guest runs, which has no driver of virtio-power."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from control import Control, Person, held, settled
from guest import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from guest import Image

MEBIBYTE = 1 << 20
#: A hundred on one architecture; `--rounds 100` does them on all.
ROUNDS = {"riscv64": 100}


@pytest.fixture(scope="module")
def person(arch_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    with running(arch_image, tmp_path_factory.mktemp(arch_image.name), "--no-power") as guest:
        found = Person(guest)
        yield found
        found.close()


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
        (("unplug", "0"), "slot 0 is empty"),
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
    for _ in range(2):  # a driver that bound to one by itself keeps what is left of it, the first time
        if names := [slot["name"] for slot in control.status()["slots"] if slot["slot"] > 2]:
            control("unplug", "--force", *names)
    assert control.status()["free_slots"] == free


def test_pause_resume_stats_and_reset_of_the_real_process(person: Person) -> None:
    control, guest = person.control, person.guest
    control("pause")
    assert control.status()["state"] == "paused"
    assert "is paused" in control.refused("pause")[1]
    control("resume")
    assert guest.run("echo $((40+2))") == "42"
    assert "rx_bytes" in control("stats")
    slot = control.plug("rng,name=stays")
    control("reset")
    guest.boot()
    assert [s["name"] for s in control.status()["slots"] if s["slot"] == slot] == ["stays"]
    control("unplug", "stays", "--force")


def test_power_button_powers_the_guest_off(arch_image: Image, tmp_path: Path) -> None:
    machine = tmp_path / "machine.toml"
    machine.write_text(
        f'[machine]\narch = "{arch_image.arch}"\n[boot]\nkernel = "{arch_image.folder}/kernel"\n'
        f'initrd = "{arch_image.folder}/initrd"\nappend = "console=hvc0 quiet"\n'
        f'[[device]]\ntype = "input"\nkind = "keyboard"\n'
    )
    with running(arch_image, tmp_path, "--no-power", machine=machine) as guest:
        control = Control(guest)
        assert control.status()["ways"]["shutdown"] == ("acpi" if arch_image.arch == "x86_64" else "key")
        guest.until("pidof acpid")
        control("shutdown")
        assert guest.terminal.wait() == 0


def test_shutdown_of_a_guest_that_does_not_listen_is_reported_and_forced(
    arch_image: Image, tmp_path: Path
) -> None:
    with running(arch_image, tmp_path, "--no-power") as guest:
        control = Control(guest)
        guest.run("killall acpid; true")
        status, line = control.refused("shutdown", "--timeout", "1")
        if arch_image.arch == "x86_64":
            assert status == 124
            assert "has not powered off within 1 s" in line
        else:
            assert status == 1
            assert "nothing that hears a power button" in line
        control("shutdown", "--force")
        assert guest.terminal.wait() == 0


@pytest.mark.timeout(900)
def test_rounds_of_plug_and_unplug_with_io_leak_nothing_and_lose_nothing(
    request: pytest.FixtureRequest, arch_image: Image, tmp_path: Path
) -> None:
    rounds = request.config.getoption("--rounds") or ROUNDS.get(arch_image.arch, 15)
    disk = tmp_path / "disk.img"
    with running(arch_image, tmp_path, "--no-power") as guest:
        person = Person(guest)
        process = person.control.process
        before = (0, 0, 0)
        for number in range(rounds):
            if number == min(5, rounds - 1):
                before = held(process)
            data = f"{number:03}\n".encode() * 65536
            disk.write_bytes(bytes(len(data)))
            slot = person.plug(f"disk:{disk}")
            guest.until("[ -b /dev/vda ]")
            # Acknowledged before the disk goes; and readers that are at it when it does.
            guest.run(
                f"yes {number:03} | dd of=/dev/vda bs=256k count=1 iflag=fullblock conv=fsync 2>/dev/null; "
                "(while dd if=/dev/vda of=/dev/null bs=4k iflag=direct 2>/dev/null; do :; done) & true"
            )
            person.unplug(slot)
            assert disk.read_bytes() == data, f"round {number}"
            guest.run("wait; [ ! -e /dev/vda ]")
        after = held(process)
        assert settled(process, before[:2]) == before[:2]
        assert after[2] <= before[2] + 4096, f"{before} KiB before, {after} KiB after"
        assert guest.run(r"dmesg | grep -E 'BUG:|Oops|WARNING: CPU|hung'", check=False) == ""
        person.close()


def test_cpus_that_the_kernel_did_not_start_come_up_and_go_down_by_hand(
    arch_image: Image, tmp_path: Path
) -> None:
    with running(arch_image, tmp_path, "--no-power", "--cpus", "1", "--max-cpus", "4") as guest:
        assert guest.run("cat /sys/devices/system/cpu/present") == "0-3"
        assert guest.run("nproc") == "1"
        for turn in range(3):
            for cpu in (1, 2, 3):
                guest.run(f"echo 1 >/sys/devices/system/cpu/cpu{cpu}/online")
            assert guest.run("nproc") == "4"
            assert guest.run("for c in 1 2 4 8; do taskset $c sh -c 'echo -n 1'; done") == "1111", turn
            for cpu in (3, 2, 1):
                guest.run(f"echo 0 >/sys/devices/system/cpu/cpu{cpu}/online")
            assert guest.run("nproc") == "1"
        status, line = Control(guest).refused("cpus", "2")
        assert status == 1
        assert "nothing in its guest hears of this" in line
        assert guest.power_off() == 0
