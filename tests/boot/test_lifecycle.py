# SPDX-License-Identifier: MIT
"""How a run ends, and what a reboot keeps."""

from __future__ import annotations

import hashlib
import signal
import termios
from typing import TYPE_CHECKING

import pytest
from guest import BOOT_SECONDS, Guest, running

if TYPE_CHECKING:
    from pathlib import Path

    from guest import Image

MEBIBYTE = 1 << 20


def test_power_off_ends_with_status_0_and_keeps_the_disk(image: Image, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(8 * MEBIBYTE))
    with running(image, tmp_path, "--disk", disk) as guest:
        guest.run("dd if=/dev/urandom of=/dev/vda bs=1M count=8 2>/dev/null; sync")
        written = guest.run("sha256sum </dev/vda").split()[0]
        assert guest.power_off() == 0
        assert guest.terminal.error_text() == ""
    assert hashlib.sha256(disk.read_bytes()).hexdigest() == written
    with running(image, tmp_path, "--disk", disk) as guest:
        assert guest.run("sha256sum </dev/vda").split()[0] == written
        assert guest.power_off() == 0


def test_reboot_starts_the_guest_anew_with_its_disk(arch_image: Image, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(MEBIBYTE))
    with running(arch_image, tmp_path, "--disk", disk, "--net", "user") as guest:
        guest.run("touch /tmp/before; dd if=/dev/urandom of=/dev/vda bs=1M count=1 conv=fsync 2>/dev/null")
        written = guest.run("sha256sum </dev/vda").split()[0]
        guest.terminal.send(b"reboot\n")
        guest.boot()
        guest.run("[ ! -e /tmp/before ]")
        assert guest.run("sha256sum </dev/vda").split()[0] == written
        guest.network()
        assert guest.power_off() == 0


def test_reboot_without_reboot_ends_with_status_10(arch_image: Image, tmp_path: Path) -> None:
    with running(arch_image, tmp_path, "--no-reboot") as guest:
        guest.terminal.send(b"reboot -f\n")
        assert guest.terminal.wait() == 10


def test_command_of_the_kernel_line_runs_and_powers_off(image: Image, tmp_path: Path) -> None:
    append = 'console=hvc0 quiet vdesktop.run="echo sum=$((40+2)); false"'
    guest = Guest(image, tmp_path, ("--append", append))
    try:
        guest.terminal.expect(r"sum=42\r*\n", BOOT_SECONDS)
        guest.terminal.expect(r"run ended with 1\r*\n")
        assert guest.terminal.wait() == 0
    finally:
        guest.terminal.close()


def test_timeout_ends_a_run_with_status_124(arch_image: Image, tmp_path: Path) -> None:
    guest = Guest(arch_image, tmp_path, ("--timeout", "0.5"))
    try:
        assert guest.terminal.wait() == 124
        assert len(guest.terminal.error_text().splitlines()) == 1
    finally:
        guest.terminal.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_a_busy_guest_and_restores_the_terminal(
    arch_image: Image, tmp_path: Path, number: signal.Signals
) -> None:
    with running(arch_image, tmp_path) as guest:
        terminal = guest.terminal
        assert termios.tcgetattr(terminal.slave) != terminal.settings
        terminal.send(b"while :; do :; done\n")
        terminal.process.send_signal(number)
        assert terminal.wait() == 128 + number
        assert termios.tcgetattr(terminal.slave) == terminal.settings


def test_escape_keys_end_a_run_and_restores_the_terminal(arch_image: Image, tmp_path: Path) -> None:
    with running(arch_image, tmp_path) as guest:
        guest.terminal.send(b"\x1dq")
        assert guest.terminal.wait() == 128 + signal.SIGINT
        assert termios.tcgetattr(guest.terminal.slave) == guest.terminal.settings


def test_interrupt_key_goes_to_the_guest(arch_image: Image, tmp_path: Path) -> None:
    with running(arch_image, tmp_path) as guest:
        # Not with `read`: a signal that comes just before that waits until there is a line.
        loop = "while :; do sleep 1; done"
        guest.terminal.send(f"sh -c 'trap \"echo caught; exit\" INT; echo waiting; {loop}'\n".encode())
        guest.terminal.expect(r"waiting\r*\n")
        guest.terminal.send(b"\x03")
        guest.terminal.expect(r"caught\r*\n")
        assert guest.power_off() == 0
