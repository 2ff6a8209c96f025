# SPDX-License-Identifier: MIT
"""How long a key and the pointer take from a VNC client to a program in a guest, beside QEMU's VNC server.

    python bench/input/run.py --guest DIR --arch ARCH [--events 400] [--rounds 2] [--qemu] [--json]

DIR is what ``vdesktop guest build --arch ARCH -o DIR`` made. From ``send`` in the client until the events of
that key or motion, which a ``cat`` in the guest reads from evdev and writes to a virtio console, are back
here: the way there, two context switches in the guest, and the console's way back. So a figure is more than
an event takes. Subjects take turns; a figure is of all rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "display"))
sys.path.insert(0, str(Path(__file__).parents[1] / "guest"))

from client import RAW, Sink
from subject import QEMU_MACHINES

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHES = tuple(QEMU_MACHINES)
PATIENCE_S = 120
#: Between two events, seconds: longer than one takes.
PAUSE = 0.02
#: Bytes of a struct input_event on a 64-bit kernel; a key's events with EV_SYN, a motion's.
EVENT, KEY, MOTION = 24, 2, 3


def free_port() -> int:
    """A VNC port: QEMU counts from 5900."""
    for port in range(5930, 6000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free")


def words(device: str) -> str:
    """The guest's command line: events of the device whose name has this word go to the console."""
    find = f"f=`grep -il {device} /sys/class/input/event*/device/name|head -n1|cut -d/ -f5`"
    return (
        f'console=hvc0 quiet vdesktop.run="stty raw -echo; {find}; echo; echo events; exec cat /dev/input/$f"'
    )


def ours(arch: str, guest: Path, console: Path, port: int, device: str) -> list[str]:
    """The command line of this project."""
    return [
        *(str(Path(sys.executable).with_name("vdesktop")), "run", "--backend", "tcg", "--arch", arch),
        *("--kernel", str(guest / "kernel"), "--initrd", str(guest / "initrd"), "--append", words(device)),
        *("--console", f"socket:{console}", "--display", f"vnc:{port}", "--net", "none", "--no-control"),
    ]


def qemu(arch: str, guest: Path, console: Path, port: int, device: str) -> list[str]:
    """The peer: the same devices over virtio-mmio, software CPU on one thread."""
    return [
        *(f"qemu-system-{arch}", *QEMU_MACHINES[arch], "-accel", "tcg,thread=single", "-m", "512M"),
        *("-nodefaults", "-kernel", str(guest / "kernel"), "-initrd", str(guest / "initrd")),
        *("-append", words(device), "-global", "virtio-mmio.force-legacy=false"),
        *("-chardev", f"socket,id=con,path={console},server=on,wait=off"),
        *("-device", "virtio-serial-device", "-device", "virtconsole,chardev=con"),
        *("-device", "virtio-gpu-device", "-device", "virtio-keyboard-device"),
        *("-device", "virtio-tablet-device", "-vnc", f"127.0.0.1:{port - 5900}"),
    ]


SUBJECTS = {"ours": ours, "QEMU": qemu}


class Console:
    """What the guest sends back."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        while self._socket.connect_ex(str(path)):
            assert process.poll() is None, "the machine ended"
            time.sleep(0.05)
        text = b""
        while b"\nevents\n" not in text.replace(b"\r", b""):
            text += self._receive(4096)
        time.sleep(1)

    def back(self, events: int) -> float:
        """Wait for so many; return when they were all there."""
        left = EVENT * events
        while left:
            left -= len(self._receive(left))
        return time.monotonic()

    def _receive(self, most: int) -> bytes:
        data = self._socket.recv(most)
        assert data, "the machine ended"
        return data

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def taken(name: str, arch: str, guest: Path, device: str, count: int) -> list[float]:
    """Milliseconds of each event, there and back."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        path, port = Path(folder, "console"), free_port()
        with running(SUBJECTS[name](arch, guest, path, port, device)) as process:
            console = Console(path, process)
            client = Sink(port, RAW)
            for number in range(count):
                at = 100 + number % 500
                down = 1 - number % 2
                message = (
                    struct.pack(">BBHH", 5, 0, at, at)
                    if device == "tablet"
                    else struct.pack(">BBxxI", 4, down, 97)
                )
                begin = time.monotonic()
                client.sock.sendall(message)
                times.append(1000 * (console.back(MOTION if device == "tablet" else KEY) - begin))
                time.sleep(PAUSE)
            client.sock.close()
            console.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guest", type=Path, required=True)
    parser.add_argument("--arch", choices=ARCHES, required=True)
    parser.add_argument("--events", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--qemu", action="store_true", help="measure QEMU, too")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    names = list(SUBJECTS) if arguments.qemu else ["ours"]
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(arguments.rounds):
        for device in ("keyboard", "tablet"):
            for name in names:
                times = taken(name, arguments.arch, arguments.guest, device, arguments.events)
                found.setdefault((device, name), []).extend(times)
    rows = [
        {
            "device": device,
            "server": name,
            "median": statistics.median(times),
            "p99": sorted(times)[len(times) * 99 // 100],
        }
        for (device, name), times in found.items()
    ]
    if arguments.json:
        print(json.dumps(rows))
        return
    print("| ms from the client to the guest's program and back | server | median | 99th percentile |")
    print("|---|---|---|---|")
    for row in rows:
        print(f"| {row['device']} | {row['server']} | {row['median']:.2f} | {row['p99']:.2f} |")


if __name__ == "__main__":
    main()
