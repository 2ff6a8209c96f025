# SPDX-License-Identifier: MIT
"""A virtual machine under measurement, ours or QEMU's, with a shell that runs one command after another."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

READY = rb"vdesktop-guest: ready"
#: Without echo and line editing, so that a command and its output cannot mix.
LOOP = b'stty -echo; PS1=; while read -r l; do eval "$l"; done\n'


@dataclass(frozen=True)
class Setting:
    """One guest, the same for all subjects."""

    arch: str
    guest: Path  #: a folder that ``vdesktop guest build`` made
    memory: str
    disk: Path
    share_port: int  #: TCP port of the host that the guest reaches as 10.0.2.2


def ours(setting: Setting) -> list[str]:
    """The command line of this project."""
    return [
        *(str(Path(sys.executable).with_name("vdesktop")), "run", "--backend", "tcg", "--arch", setting.arch),
        *("--kernel", str(setting.guest / "kernel"), "--initrd", str(setting.guest / "initrd")),
        *("--append", "quiet console=hvc0", "--memory", setting.memory, "--console", "stdio"),
        *("--disk", str(setting.disk), "--net", "user"),
    ]


#: Machine and CPU: those without PCI where QEMU has them, as ours has none.
QEMU_MACHINES = {
    "x86_64": ("-M", "microvm,acpi=on,pcie=off", "-cpu", "qemu64"),
    "aarch64": ("-M", "virt,gic-version=2", "-cpu", "cortex-a72"),
    "riscv64": ("-M", "virt", "-cpu", "rv64"),
}


def qemu(setting: Setting) -> list[str]:
    """The peer: the same devices over virtio-mmio, software CPU on one thread."""
    return [
        *(
            f"qemu-system-{setting.arch}",
            *QEMU_MACHINES[setting.arch],
            "-accel",
            "tcg,thread=single",
            "-smp",
            "1",
        ),
        # Guest RAM is shared memory, as ours is, so that it does not count as the process's own.
        *("-object", f"memory-backend-memfd,id=ram,share=on,size={setting.memory}"),
        *("-machine", "memory-backend=ram", "-m", setting.memory, "-nodefaults", "-display", "none"),
        *("-no-reboot", "-kernel", str(setting.guest / "kernel"), "-initrd", str(setting.guest / "initrd")),
        *("-append", "quiet console=hvc0", "-global", "virtio-mmio.force-legacy=false"),
        *("-chardev", "stdio,id=con,signal=off", "-device", "virtio-serial-device"),
        *("-device", "virtconsole,chardev=con", "-device", "virtio-rng-device"),
        *("-drive", f"if=none,id=disk,format=raw,file={setting.disk}"),
        *("-device", "virtio-blk-device,drive=disk"),
        *("-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net"),
    ]


SUBJECTS = {"vdesktop": ours, "qemu": qemu}


class Subject:
    """A running machine."""

    def __init__(self, command: list[str]) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self._out = self.process.stdout.fileno()
        os.set_blocking(self._out, False)
        self._seen = b""
        self._number = 0

    def expect(self, pattern: bytes, timeout: float = 120) -> float:
        """Read until a pattern; return the moment it was seen."""
        end = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while not (found := re.search(pattern, self._seen)):
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError(f"no {pattern!r} in the guest's output: {self._seen[-2000:]!r}")
                if selector.select(1):
                    self._seen += os.read(self._out, 1 << 16)
        moment = time.monotonic()
        self._seen = self._seen[found.end() :]
        return moment

    def boot(self, timeout: float = 120) -> float:
        """Wait for the shell; return seconds from the command to init's first line."""
        moment = self.expect(READY, timeout)
        self.expect(rb"~# ", timeout)
        self._send(LOOP)
        self.run("true")
        return moment - self.started

    def _send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def run(self, command: str, timeout: float = 300) -> float:
        """Run a command in the guest; return its seconds, on the host's clock."""
        self._number += 1
        mark = f"{self._number:04}"
        self._send(f'echo "<<""{mark}>>"; {command}\necho "<<""{mark}:$?>>"\n'.encode())
        begin = self.expect(f"<<{mark}>>".encode(), timeout)
        return self.expect(f"<<{mark}:0>>".encode(), timeout) - begin

    def resident_kib(self) -> int:
        """Memory of the process that is not shared with the guest: RssAnon + RssFile, in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return sum(int(re.search(rf"{key}:\s+(\d+)", status)[1]) for key in ("RssAnon", "RssFile"))  # type: ignore[index]


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[Subject]:
    """A machine that is ended in any case."""
    subject = Subject(command)
    try:
        yield subject
    finally:
        subject.process.kill()
        subject.process.communicate()
