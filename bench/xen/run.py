# SPDX-License-Identifier: MIT
"""The xen backend against its peers, in one dom0: a request's round trip, and the making of a domain.

Only ratios mean anything in a rig. ``python bench/xen/run.py --guest FOLDER --bare PROGRAM``
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from vdesktop_xen.hypervisor import XenHypervisor

from vdesktop_core.config import BootConfig, MachineConfig
from vdesktop_core.host import Host
from vdesktop_core.hypervisor import Arch
from vdesktop_core.machine import Machine
from vdesktop_core.testing.conformance.guest import Guest
from vdesktop_core.testing.conformance.program import read, until
from vdesktop_core.transport.mmio import MmioSlot

MEMORY_MIB = 256
#: A page that nothing of ours answers.
ELSEWHERE = 0xD800_0000


def round_trips(bare: Path, reads: int, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of a read: of a register of the C core by our loop, and of a constant by the bare one."""
    with Host() as host, Guest(XenHypervisor(), Arch.X86_64) as guest:
        news = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        slot = MmioSlot(host.native, 1, guest.vm.irq_line(guest.line), news)
        base = guest.map.slot(1).base
        guest.vm.add_mmio(base, 0x1000, slot.io)
        go = guest.data
        turns = [
            part
            for n in range(2 * repeats)
            for part in (until(go, n + 1), read(base if n % 2 == 0 else ELSEWHERE, 4, times=reads))
        ]
        guest.start(turns)
        command = [bare, str(guest.vm.domain), hex(ELSEWHERE)]
        peer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert peer.stdout is not None
        assert peer.stdout.readline() == "ready\n"
        taken: tuple[list[float], list[float]] = ([], [])
        for n in range(2 * repeats):
            start = time.perf_counter()
            guest.poke(go, n + 1)
            guest.reached(2 * n + 1)
            taken[n % 2].append((time.perf_counter() - start) / reads)
        guest.vm.stop()
        peer.kill()
        peer.wait()
        slot.close()
        os.close(news)
    return taken


async def ours(folder: Path, scratch: Path) -> float:
    """Seconds from nothing to a domain whose CPU runs."""
    config = MachineConfig(
        name="bench",
        arch=Arch.X86_64,
        backend="xen",
        memory=MEMORY_MIB << 20,
        boot=BootConfig(kernel=str(folder / "kernel"), initrd=str(folder / "initrd"), append="quiet"),
        devices=({"type": "console", "ports": [{"backend": f"file:{scratch / 'console'}"}]},),
    )
    machine = Machine(config)
    start = time.perf_counter()
    await machine.start()
    taken = time.perf_counter() - start
    await machine.aclose()
    return taken


def xl(folder: Path, scratch: Path) -> float:
    """Seconds that ``xl create`` takes for a PVH domain with the same kernel and memory."""
    config = scratch / "xl.cfg"
    kernel, initrd = folder / "kernel", folder / "initrd"
    lines = [
        'name="bench-xl"',
        'type="pvh"',
        f'kernel="{kernel}"',
        f'ramdisk="{initrd}"',
        f"memory={MEMORY_MIB}",
    ]
    config.write_text("\n".join([*lines, 'cmdline="quiet"', ""]))
    start = time.perf_counter()
    subprocess.run(["xl", "create", "-q", config], check=True, stdout=subprocess.DEVNULL)
    taken = time.perf_counter() - start
    subprocess.run(["xl", "destroy", "bench-xl"], check=True)
    return taken


def main() -> None:
    """Run both, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guest", type=Path)
    parser.add_argument("--bare", type=Path)
    parser.add_argument("--reads", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.bare:
        mine, bare = (
            statistics.median(times) for times in round_trips(options.bare, options.reads, options.repeats)
        )
        print(f"round trip: ours {mine * 1e6:.0f} us, bare {bare * 1e6:.0f} us, ratio {mine / bare:.2f}")
        print(f"requests a second: {1 / mine:.0f}")
    if options.guest:
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name)
            pairs = [
                (asyncio.run(ours(options.guest, scratch)), xl(options.guest, scratch))
                for _ in range(options.repeats)
            ]
        mine, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(f"domain made: ours {mine:.2f} s, xl create {theirs:.2f} s, ratio {mine / theirs:.2f}")


if __name__ == "__main__":
    main()
