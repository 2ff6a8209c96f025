# SPDX-License-Identifier: MIT
"""``vdesktop ctl`` on a guest under test, and what a person does inside of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from guest import vdesktop

from vdesktop_core.cli.device import parse_device
from vdesktop_core.control.client import Client

if TYPE_CHECKING:
    from guest import Guest

PATIENCE = 150


class Control:
    """The control of one running guest."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.process = guest.terminal.process.pid
        self._variables = os.environ | guest.variables
        (self.name,) = (row["name"] for row in json.loads(self._run("ps", "--json").stdout))

    def client(self) -> Client:
        """A connection to the machine."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", self._variables["XDG_RUNTIME_DIR"])
            return Client(self.name)

    def __call__(self, *words: str | Path) -> str:
        """Do a command."""
        done = self._run("ctl", self.name, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words: str | Path) -> tuple[int, str]:
        """Do a command that is refused; return its exit status and its one line."""
        done = self._run("ctl", self.name, *words)
        assert done.returncode != 0, done.stdout
        (line,) = done.stderr.splitlines()
        return done.returncode, line

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("status", "--json"))
        return found

    def plug(self, device: str) -> int:
        """Plug a device in and return its slot."""
        (answer,) = json.loads(self("plug", device, "--json"))
        return int(answer["slot"])

    def _run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            vdesktop(*words),
            capture_output=True,
            text=True,
            env=self._variables,
            check=False,
            timeout=PATIENCE,
        )


class Person:
    """Somebody in a stock guest: what they do so that it uses a slot, or lets go of it.

    A guest with ACPI finds a device in a slot that it has not seen filled. Otherwise the slot is a platform
    device that no driver has, and that is bound by hand.
    """

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.acpi = guest.image.arch == "x86_64"
        self.control = Control(guest)
        self._client = self.control.client()
        self._known: set[int] = set()

    def plug(self, device: str) -> int:
        """Plug a device in, and have the guest use it."""
        slot = int(self._client.call("plug", device=parse_device(device))["slot"])
        if self.acpi and slot not in self._known:
            self.guest.until(f"grep -q {self._address(slot):x} /proc/iomem")
        else:
            self.guest.run(f"echo {self._node(slot)} >/sys/bus/platform/drivers_probe")
        self._known.add(slot)
        self.guest.run("/etc/vdesktop/drivers")  # what udev does in a larger guest
        return slot

    def unplug(self, slot: int) -> None:
        """Take a device out that the guest uses."""
        node = self._node(slot)
        with ThreadPoolExecutor(1) as pool:
            removal = pool.submit(self._client.call, "unplug", slot=slot, timeout=PATIENCE)
            self.guest.run(f"echo {node} >/sys/bus/platform/drivers/virtio-mmio/unbind")
            removal.result()

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def _address(self, slot: int) -> int:
        found = next(s for s in self._client.call("status")["slots"] if s["slot"] == slot)
        return int(found["address"])

    def _node(self, slot: int) -> str:
        if not self.acpi:
            return f"{self._address(slot):x}.virtio_mmio"
        found = self.guest.run(f"grep -lx {slot} /sys/bus/acpi/devices/LNRO0005:*/uid")
        return found.split("/")[-2]


def held(process: int) -> tuple[int, int, int]:
    """Descriptors, threads and KiB of private memory that a process has."""
    folder = Path(f"/proc/{process}")
    descriptors, threads = (len(list((folder / what).iterdir())) for what in ("fd", "task"))
    lines = (folder / "status").read_text().splitlines()
    return descriptors, threads, next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def settled(process: int, expected: tuple[int, int]) -> tuple[int, int]:
    """Return what was expected where a process has no more descriptors and threads, else what it has.

    Threads that were joined may be listed a little longer: now, and when the expected was counted.
    """
    deadline = time.monotonic() + 30
    while True:
        now = held(process)[:2]
        if now[0] <= expected[0] and now[1] <= expected[1]:
            return expected
        if time.monotonic() > deadline:
            return now
        time.sleep(0.05)
