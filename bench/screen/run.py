# SPDX-License-Identifier: MIT
"""What an unchanged screen costs, and what a flush of a whole one does; no guest runs.

    python bench/screen/run.py [--seconds 5] [--json]

*Unchanged*: the CPU time of this process with a viewer that waits for news, in percent of a core. The scan of
the boot framebuffer is compared with one memcmp of as much memory.

*Flush*: the CPU time of the device's thread for one of 1920 x 1080 pixels of a blob, as Linux's console does
it: shown where they lie, in 405 pieces of guest memory, and copied, as those that are no whole pages.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "native"))

from gpu_rig import FREE, OK, Gpu, picture

from vdesktop_core.display.bootfb import BootFramebuffer, place_framebuffer
from vdesktop_core.host import Host
from vdesktop_core.hypervisor import Arch
from vdesktop_core.memory import GuestMemory, MemoryRegion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.display.native import NativeViewing

SIZES = ("1024x768", "1920x1080")
FLUSHES = 200


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


def flush_us(entries: list[tuple[int, int]]) -> float:
    """Return the CPU time that the I/O thread takes for the flush of a whole screen, in µs."""
    width, height = 1920, 1080
    gpu = Gpu(width=width, height=height, memory=64)
    try:
        gpu.start()
        gpu.memory.write(FREE, os.urandom(4096) * 2200)
        assert gpu.create_blob(1, sum(size for _, size in entries), entries) == OK
        assert gpu.set_scanout_blob(1, (0, 0, width, height), (width, height)) == OK
        gpu.flush(1, (0, 0, width, height))
        begin = thread_us("test-io")
        for _ in range(FLUSHES):
            gpu.flush(1, (0, 0, width, height))
        return (thread_us("test-io") - begin) / FLUSHES
    finally:
        gpu.free()


def flushes() -> dict[str, float]:
    """Return what a flush costs, by where the pixels are."""
    size, pieces = 1920 * 1080 * 4, 405
    piece = size // pieces
    return {
        "in place": flush_us([(FREE + piece * place, piece) for place in reversed(range(pieces))]),
        "copied": flush_us([(FREE + 4, size)]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"unchanged": unchanged(arguments.seconds), "flush_us": flushes()}
    if arguments.json:
        print(json.dumps(found))
        return
    print("| unchanged screen | % of a core | a scan, µs | memcmp, µs |\n|---|---|---|---|")
    for name, values in found["unchanged"].items():
        scan = f"{values['scan_us']:.0f} | {values['memcmp_us']:.0f}" if "scan_us" in values else "|"
        print(f"| {name} | {values['percent']:.2f} | {scan} |")
    print("\n| flush of 1920 x 1080 | CPU µs |\n|---|---|")
    for name, value in found["flush_us"].items():
        print(f"| {name} | {value:.0f} |")


if __name__ == "__main__":
    main()
