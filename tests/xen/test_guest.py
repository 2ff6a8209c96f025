# SPDX-License-Identifier: MIT
"""A stock Debian guest as a domain: devices, screen, and what Xen's own tools see of it and do with it."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest
from guest import BOOT_SECONDS, find_image, running, vdesktop
from xen_tools import domains, event_channels, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from guest import Guest

MEBIBYTE = 1 << 20
NAME = "xen-guest"
#: There is no virtio-power device, and the kernel does not look for Xen.
STOCK = ("--no-power", "--append", "console=hvc0 quiet nopv")


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    disk(tmp_path).write_bytes(os.urandom(MEBIBYTE))
    options = (
        "--name",
        NAME,
        "--cpus",
        "2",
        "--disk",
        disk(tmp_path),
        "--net",
        "user",
        "--framebuffer",
        "640x480",
    )
    with running(find_image("x86_64", "trixie", "xen"), tmp_path, *options) as guest:
        yield guest


def disk(folder: Path) -> Path:
    return folder / "disk.img"


def number() -> int:
    """The domain's, as ``xl list`` shows it."""
    return next(domain for domain, name in domains().items() if name == NAME)


def test_guest_with_all_devices_is_changed_while_it_runs_and_shut_down_by_tools(
    guest: Guest, tmp_path: Path
) -> None:
    def vdesktop_says(*words: str | Path) -> None:
        subprocess.run(
            vdesktop(*words), check=True, stdout=subprocess.DEVNULL, env=os.environ | guest.variables
        )

    domain = number()
    assert guest.run("nproc") == "2"
    assert (
        guest.run("sha256sum </dev/vda").split()[0] == hashlib.sha256(disk(tmp_path).read_bytes()).hexdigest()
    )
    guest.network()
    assert guest.run("cat /sys/class/misc/hw_random/rng_current").startswith("virtio_rng")
    assert len(guest.run("dd if=/dev/hwrng bs=16 count=1 2>/dev/null | od -An -tx1").split()) == 16
    # The boot framebuffer: memory of Xen's, which has no file descriptor; Xen logs who writes to it.
    shots = [tmp_path / "white.png", tmp_path / "black.png"]
    for colour, shot in zip(("\\377", "\\0"), shots, strict=True):
        guest.run(f"tr '\\0' '{colour}' </dev/zero | dd of=/dev/fb0 bs=4096 count=300 2>/dev/null")
        vdesktop_says("screenshot", NAME, "-o", shot)
    assert brightness(shots[0]) > 240
    assert brightness(shots[1]) < 15
    late = tmp_path / "late.img"
    late.write_bytes(bytes(MEBIBYTE))
    vdesktop_says("ctl", NAME, "plug", f"disk:{late},name=late")
    guest.until("[ -b /dev/vdb ]")
    guest.run("dd if=/dev/urandom of=/dev/vdb bs=64k count=16 2>/dev/null")
    written = guest.run("sha256sum </dev/vdb").split()[0]
    vdesktop_says("ctl", NAME, "unplug", "late", "--timeout", str(BOOT_SECONDS))
    assert hashlib.sha256(late.read_bytes()).hexdigest() == written
    vdesktop_says("ctl", NAME, "cpus", "1", "--timeout", str(BOOT_SECONDS))
    assert guest.run("nproc; [ ! -e /dev/vdb ]") == "1"
    guest.terminal.send(b"reboot\n")
    guest.boot()
    assert number() == domain, "a reset keeps the domain"
    assert guest.run("nproc") == "2"
    subprocess.run(["xl", "shutdown", str(domain)], check=True)
    guest.terminal.ends_with(0, BOOT_SECONDS)
    assert domain not in domains()


def test_guest_without_any_driver_is_shut_down_by_its_power_button(tmp_path: Path) -> None:
    before = domains(), event_channels()
    with running(find_image("x86_64", "trixie", "xen"), tmp_path, "--name", NAME, *STOCK) as guest:
        node = f"/local/domain/{number()}/control/shutdown"
        guest.until("pidof acpid")
        subprocess.run(["xenstore-write", node, "reboot"], check=True)
        guest.boot()
        guest.until("pidof acpid")
        subprocess.run(["xenstore-write", node, "suspend"], check=True)
        until(lambda: xenstore(node) == "", "what cannot be done is not cleared")
        subprocess.run(["xenstore-write", node, "poweroff"], check=True)
        guest.terminal.ends_with(0, BOOT_SECONDS)
    until(lambda: (domains(), event_channels()) == before, "something is left")


def brightness(picture: Path) -> float:
    """The mean of all colours of a PNG of ours: 8 bits a colour, no filters."""
    data, packed, at = picture.read_bytes(), b"", 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        packed += data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    pixels = zlib.decompress(packed)
    return sum(pixels) / len(pixels)


def xenstore(path: str) -> str:
    """What XenStore has there."""
    return subprocess.run(["xenstore-read", path], check=True, capture_output=True, text=True).stdout.strip()
