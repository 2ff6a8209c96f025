# SPDX-License-Identifier: MIT
"""A stock Debian kernel on KVM, with one of everything."""

from __future__ import annotations

import hashlib
import random
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "boot"))

from guest import ROOT, Image, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest import Guest

FOLDER = ROOT / ".cache/guests/x86_64-trixie"
DISK_BYTES = 4 << 20


class Booted:
    """A guest with two CPUs, a disk of known content, and port 5000 forwarded."""

    def __init__(self, guest: Guest, disk: Path, port: int) -> None:
        self.guest, self.disk, self.port = guest, disk, port


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    if not (FOLDER / "manifest.json").is_file():
        pytest.skip(f"no guest in {FOLDER}: make guest ARCH=x86_64 SUITE=trixie")
    scratch = tmp_path_factory.mktemp("kvm")
    disk, port = scratch / "disk.img", free_port()
    disk.write_bytes(random.Random(1).randbytes(DISK_BYTES))
    options = ["--backend", "kvm", "--cpus", "2", "--memory", "256M", "--disk", str(disk)]
    options += ["--net", f"user,hostfwd=tcp:127.0.0.1:{port}-:5000"]
    with running(Image("x86_64", "trixie", FOLDER), scratch, *options) as guest:
        yield Booted(guest, disk, port)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_guest_has_both_cpus_and_says_nothing_bad(booted: Booted) -> None:
    assert booted.guest.run("nproc") == "2"
    bad = r"dmesg | grep -E 'BUG:|Oops|WARNING: CPU|Call Trace|rcu.*stall|soft lockup'"
    assert booted.guest.run(bad, check=False) == ""
    assert "kvm-clock" in booted.guest.run(
        "cat /sys/devices/system/clocksource/clocksource0/available_clocksource"
    )


def test_disk_reads_and_writes_are_the_hosts_bytes(booted: Booted) -> None:
    guest = booted.guest
    assert guest.run("sha256sum </dev/vda").split()[0] == digest(booted.disk.read_bytes())
    guest.run("dd if=/dev/urandom of=/tmp/noise bs=64k count=16 2>/dev/null")
    guest.run("dd if=/tmp/noise of=/dev/vda bs=64k seek=16 conv=fsync 2>/dev/null")
    inside = guest.run("sha256sum </tmp/noise").split()[0]
    assert digest(booted.disk.read_bytes()[1 << 20 : 2 << 20]) == inside


def test_entropy_comes_from_the_device(booted: Booted) -> None:
    assert "virtio" in booted.guest.run("cat /sys/class/misc/hw_random/rng_current")
    assert booted.guest.run("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c") == "64"


def test_network_carries_a_stream(booted: Booted) -> None:
    guest, data = booted.guest, random.Random(2).randbytes(256 << 10)
    guest.network()
    guest.run("(nc -l -p 5000 </dev/null >/tmp/got; echo done >/tmp/over) & true")
    guest.until("netstat -ltn | grep -q :5000")
    with socket.create_connection(("127.0.0.1", booted.port), timeout=60) as stream:
        stream.sendall(data)
    guest.until("[ -e /tmp/over ]")
    assert guest.run("sha256sum </tmp/got").split()[0] == digest(data)


def test_reboot_and_power_off_are_clean(booted: Booted) -> None:
    guest = booted.guest
    guest.terminal.send(b"reboot -f\n")
    guest.boot()
    assert guest.run("nproc") == "2"
    assert guest.power_off() == 0
