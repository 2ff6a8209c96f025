# SPDX-License-Identifier: MIT
"""What an unchanged screen costs, and how long input takes to reach the guest's programs.

    python bench/screen/run.py [--guest DIR --arch ARCH] [--seconds 5] [--events 400] [--json]

*Unchanged*: the CPU time of this process with a viewer that waits for news, in percent of a core; no guest
runs. The scan of the boot framebuffer is compared with one memcmp of as much memory.

*Input*, with a guest (DIR is what ``vdesktop guest build`` made): from handing a key to the keyboard until
its events, which a ``cat`` in the guest reads from evdev and writes to a virtio console, are back here. So
it is the way there, two context switches in the guest, and the console's way back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "native"))

from gpu_rig import Gpu, picture

from vdesktop_core import config as configuration
from vdesktop_core.devices.console import parse_console
from vdesktop_core.display.bootfb import BootFramebuffer, place_framebuffer
from vdesktop_core.display.input import Key
from vdesktop_core.display.session import InputSession
from vdesktop_core.host import Host
from vdesktop_core.hypervisor import Arch
from vdesktop_core.machine import Machine
from vdesktop_core.memory import GuestMemory, MemoryRegion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.display.native import NativeViewing

SIZES = ("1024x768", "1920x1080")
#: Bytes of a key's EV_KEY and SYN_REPORT, as evdev gives them on a 64-bit kernel.
FRAME = 48


class SharedMemory:
    """The part of a backend that the boot framebuffer needs."""

    def allocate_memory(self, _gpa: int, name: str, size: int) -> MemoryRegion:
        return MemoryRegion(name, size)

    def dirty_hook(self) -> int:
        return 0


@contextlib.contextmanager
def boot_framebuffer(size: str) -> Iterator[BootFramebuffer]:
    with Host() as host, GuestMemory(host.native) as memory:
        vm: Any = SharedMemory()
        framebuffer = BootFramebuffer(host.native, place_framebuffer(Arch.AARCH64, size), memory, vm)
        with contextlib.closing(framebuffer):
            yield framebuffer


def thread_us(name: str) -> float:
    """Return the CPU time that a thread of this process has had, in µs."""
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int((task / "schedstat").read_text().split()[0]) / 1000
    raise LookupError(name)


def settle(viewing: NativeViewing) -> None:
    """Take all news, until there is none."""
    while viewing.take().news:
        time.sleep(0.3)


def idle(seconds: float) -> float:
    """Return percent of a core while a viewer waits for what does not come."""
    begin, clock = time.process_time(), time.monotonic()
    time.sleep(seconds)
    return 100 * (time.process_time() - begin) / (time.monotonic() - clock)


def memcmp_us(size: int) -> float:
    """Return the CPU time of comparing two equal pieces of memory, in µs."""
    one, other = (ctypes.create_string_buffer(os.urandom(4096) * (size // 4096)) for _ in range(2))
    ctypes.memmove(other, one, size)
    compare = ctypes.CDLL(None).memcmp
    compare.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    taken = []
    for _ in range(50):
        begin = time.thread_time()
        compare(one, other, size)
        taken.append(time.thread_time() - begin)
        time.sleep(0.01)  # as cold as a scan finds it
    return 1e6 * statistics.median(taken)


def unchanged(seconds: float) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for size in SIZES:
        with boot_framebuffer(size) as framebuffer:
            screen = framebuffer.screen
            assert screen is not None
            settle(screen.scanouts[0].view())
            scans, used = framebuffer.counters()["scans"], thread_us("vd-bootfb")
            cost = idle(seconds)
            scans, used = framebuffer.counters()["scans"] - scans, thread_us("vd-bootfb") - used
            found[f"boot framebuffer {size}"] = {
                "percent": cost,
                "scan_us": used / scans,
                "memcmp_us": memcmp_us(framebuffer.layout.size),
            }
    gpu = Gpu()
    try:
        gpu.start()
        gpu.shown(1, 1024, 768, picture(1024, 768))
        settle(gpu.gpu.screen.scanouts[0].view())
        found["virtio-gpu 1024x768"] = {"percent": idle(seconds)}
    finally:
        gpu.free()
    return found


class Echo:
    """Reads what the guest sends back, and notes when."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        while self._socket.connect_ex(str(path)):
            time.sleep(0.05)
        self.started = threading.Event()
        self.back = threading.Semaphore(0)
        self.at = 0.0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        text = b""
        while b"\nevents\n" not in text.replace(b"\r", b""):
            text += self._socket.recv(4096)
        self.started.set()
        left = FRAME
        while data := self._socket.recv(FRAME):
            left -= len(data)
            if left <= 0:
                self.at = time.monotonic()
                left += FRAME
                self.back.release()


async def latency(folder: Path, arch: str, events: int) -> list[float]:
    """Return the milliseconds that each event took, there and back."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "console")
        loaded = configuration.load(folder / "machine.toml")
        command = "stty raw -echo; echo; echo events; exec cat /dev/input/event0"
        config = msgspec.structs.replace(
            loaded,
            arch=Arch(arch),
            boot=msgspec.structs.replace(loaded.boot, append=f'console=hvc0 quiet vdesktop.run="{command}"'),
            devices=(parse_console(f"socket:{path}"), {"type": "input", "kind": "keyboard"}),
        )
        async with Machine(config) as machine:
            await machine.start()
            hands = InputSession(machine.desktop.inputs)
            echo = await asyncio.to_thread(Echo, path)
            await asyncio.to_thread(echo.started.wait)
            await asyncio.sleep(1)
            return await asyncio.to_thread(measure, hands, echo, events)


def measure(hands: InputSession, echo: Echo, events: int) -> list[float]:
    taken = []
    for number in range(events):
        begin = time.monotonic()
        hands.send(Key(30, down=number % 2 == 0))
        if not echo.back.acquire(timeout=30):
            sys.exit("an event did not come back within 30 s")
        taken.append(1000 * (echo.at - begin))
        time.sleep(0.02)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guest", type=Path)
    parser.add_argument("--arch", choices=list(Arch))
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--events", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"unchanged": unchanged(arguments.seconds)}
    if arguments.guest is not None:
        taken = sorted(asyncio.run(latency(arguments.guest, arguments.arch, arguments.events)))
        found["input_ms"] = {
            "median": statistics.median(taken),
            "p99": taken[len(taken) * 99 // 100],
            "most": taken[-1],
        }
    if arguments.json:
        print(json.dumps(found))
        return
    print("| unchanged screen | % of a core | a scan, µs | memcmp, µs |\n|---|---|---|---|")
    for name, values in found["unchanged"].items():
        scan = f"{values['scan_us']:.0f} | {values['memcmp_us']:.0f}" if "scan_us" in values else "|"
        print(f"| {name} | {values['percent']:.2f} | {scan} |")
    if "input_ms" in found:
        print("\n| key to evdev and back, ms | |\n|---|---|")
        for name, value in found["input_ms"].items():
            print(f"| {name} | {value:.2f} |")


if __name__ == "__main__":
    main()
