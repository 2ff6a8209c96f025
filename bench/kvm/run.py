# SPDX-License-Identifier: MIT
"""KVM: prices of exits and interrupts, and a guest's boot and exits beside QEMU's on the same KVM.

    python bench/kvm/run.py --guest DIR [--rounds 3] [--no-prices] [--in-memory]

On a host whose KVM runs Linux, or in a rig (``bench/kvm/rig.py``), where only ratios mean anything. DIR is
what ``vdesktop guest build -o DIR`` made. Subjects take turns. Exits are KVM's own counters (debugfs), which
need root.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "guest")]

import local_files  # noqa: E402
from subject import running  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from subject import Subject

COUNTERS = Path("/sys/kernel/debug/kvm")
DISK_MIB = 16
FEW, MANY = 500, 1500
#: KVM's counters that are shown where the architecture has them: all exits, those to the process, halts.
SHOWN = ("exits", "mmio_exits", "mmio_exit_user", "io_exits", "halt_exits", "insn_emulation")
_QEMU = {
    "x86_64": ("-M", "microvm,acpi=on,pcie=off,isa-serial=off"),
    "aarch64": ("-M", "virt,gic-version=3"),
}


def ours(guest: Path, memory: str, disk: Path) -> list[str]:
    """The command line of this project."""
    return [
        *(str(Path(sys.executable).with_name("vdesktop")), "run", "--backend", "kvm"),
        *("--kernel", str(guest / "kernel"), "--initrd", str(guest / "initrd")),
        *("--append", "quiet console=hvc0", "--memory", memory, "--console", "stdio", "--disk", str(disk)),
    ]


def qemu(guest: Path, memory: str, disk: Path, words: str = "") -> list[str]:
    """The peer: the same devices over virtio-mmio."""
    machine = platform.machine()
    return [
        *(f"qemu-system-{machine}", *_QEMU[machine], "-accel", "kvm", "-cpu", "host", "-m", memory),
        *("-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(guest / "kernel")),
        *("-initrd", str(guest / "initrd"), "-append", f"quiet console=hvc0{words}"),
        *("-global", "virtio-mmio.force-legacy=false", "-chardev", "stdio,id=con,signal=off"),
        *("-device", "virtio-serial-device", "-device", "virtconsole,chardev=con"),
        *("-device", "virtio-rng-device", "-drive", f"if=none,id=disk,format=raw,file={disk}"),
        *("-device", "virtio-blk-device,drive=disk"),
    ]


def qemu_told(guest: Path, memory: str, disk: Path) -> list[str]:
    """The peer with the word that our x86_64 backend puts on the command line by itself."""
    return qemu(guest, memory, disk, " pci=noearly")


SUBJECTS = {"ours": ours, "QEMU": qemu}
if platform.machine() == "x86_64":
    SUBJECTS["QEMU, pci=noearly"] = qemu_told


def counters() -> dict[str, int]:
    """KVM's counters over all machines that live."""
    return {name: int((COUNTERS / name).read_text()) for name in SHOWN if (COUNTERS / name).is_file()}


def change(action: Callable[[], object]) -> dict[str, int]:
    """What an action adds to the counters."""
    before = counters()
    action()
    return {name: value - before[name] for name, value in counters().items()}


def requests(subject: Subject) -> dict[str, int]:
    """Exits of MANY - FEW direct reads of 4 KiB; what a command costs besides is in both."""

    def read(count: int) -> dict[str, int]:
        command = f"dd if=/dev/vda of=/dev/null bs=4k count={count} iflag=direct 2>/dev/null"
        return change(lambda: subject.run(command))

    read(FEW)
    few, many = read(FEW), read(MANY)
    return {name: (many[name] - few[name]) * 1000 // (MANY - FEW) for name in few}


def guests(guest: Path, memory: str, rounds: int, *, in_memory: bool) -> dict[str, dict[str, list[float]]]:
    """Return figures by what was measured and by subject, one a round."""
    results: dict[str, dict[str, list[float]]] = {}

    def note(what: str, name: str, value: float) -> None:
        results.setdefault(what, {}).setdefault(name, []).append(value)

    with tempfile.NamedTemporaryFile(prefix="bench-", suffix=".img") as disk:
        disk.write(bytes(DISK_MIB << 20))
        disk.flush()
        opened = {guest / "kernel", guest / "initrd"}
        for command in SUBJECTS.values():  # once unmeasured: files come into the host's cache
            with running(command(guest, memory, Path(disk.name))) as subject:
                subject.boot()
                opened |= local_files.mapped(subject.process.pid)
        if in_memory:
            short = [*ours(guest, memory, Path(disk.name)), "--console", "none", "--timeout", "1"]
            local_files.keep({*opened, *local_files.imported(short), *local_files.firmware()})
        for _ in range(rounds):
            for name, command in SUBJECTS.items():
                with running(command(guest, memory, Path(disk.name))) as subject:
                    note("command to init, s", name, subject.boot())
                    for counter, value in counters().items():
                        note(f"a boot: {counter}", name, value)
                    for counter, value in requests(subject).items():
                        note(f"1000 reads: {counter}", name, value)
    return results


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Return a Markdown table of medians; a ratio is ours over a peer's."""
    peers = [name for name in SUBJECTS if name != "ours"]
    lines = [
        "| | ours |" + "".join(f" {name} | ratio |" for name in peers),
        "|---|---|" + "---|---|" * len(peers),
    ]
    for what, by_name in results.items():
        median = {name: statistics.median(values) for name, values in by_name.items()}
        shown = {
            name: f"{value:.2f}" if what.endswith(", s") else f"{value:.0f}" for name, value in median.items()
        }
        cells = [shown["ours"]]
        for name in peers:
            cells += [shown[name], f"{median['ours'] / median[name]:.2f}" if median[name] else "-"]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def prices() -> str:
    """Return a Markdown table of what exits and interrupts cost, in microseconds."""
    rows: list[tuple[str, float]] = []
    if platform.machine() == "x86_64":
        with tempfile.TemporaryDirectory() as scratch:
            program = Path(scratch, "exits")
            subprocess.run(["gcc", "-O2", "-pthread", HERE / "exits.c", "-o", program], check=True)
            said = subprocess.run(
                [program, "1000"], check=True, capture_output=True, text=True, timeout=600
            ).stdout
        rows += [(name, int(value) / 1000) for name, value in map(str.split, said.splitlines())]
    rows += [*dispatches(), ("interrupt there, doorbell back", latency())]
    return "\n".join(["| | µs |", "|---|---|", *(f"| {name} | {value:.1f} |" for name, value in rows)])


def dispatches(count: int = 3000) -> list[tuple[str, float]]:
    """Microseconds of a read that reaches C (an empty slot), Python, and nobody."""
    from vdesktop_kvm.hypervisor import KvmHypervisor, host_arch

    from vdesktop_core.host import Host
    from vdesktop_core.testing.conformance.guest import Guest
    from vdesktop_core.testing.conformance.program import read
    from vdesktop_core.transport.mmio import MmioSlot

    arch = host_arch()
    assert arch is not None
    with Host() as host, Guest(KvmHypervisor(), arch) as guest:
        slot = MmioSlot(host.native, 1)
        places = [guest.map.slot(index).base for index in (1, 2, 3)]
        guest.vm.add_mmio(places[0], 4096, slot.io)
        guest.device(places[1])
        found = []
        for name, place in zip(
            ("MMIO read to C", "MMIO read to Python", "MMIO read of nothing"), places, strict=True
        ):

            def seconds(times: int, place: int = place) -> float:
                begin = time.perf_counter()
                guest.run([read(place, 4, times=times)])
                return time.perf_counter() - begin

            few = min(seconds(100) for _ in range(3))
            many = min(seconds(100 + count) for _ in range(3))
            found.append((name, (many - few) / count * 1e6))
        guest.close()
        slot.close()
    return found


def latency(count: int = 300) -> float:
    """Microseconds from a device's raising of its line until a doorbell comes back: a guest that sleeps has
    taken the interrupt, and a thread that sleeps has heard of it. The median.
    """
    from vdesktop_kvm.hypervisor import KvmHypervisor, host_arch

    from vdesktop_core.testing.conformance.guest import Guest
    from vdesktop_core.testing.conformance.program import write

    arch = host_arch()
    assert arch is not None
    bell = os.eventfd(0)
    with Guest(KvmHypervisor(), arch) as guest:
        part, platform, line, slot = guest.part, guest.platform, guest.line, guest.map.slot(1).base
        assert guest.vm.add_doorbell(slot, 4, None, bell)
        # By its rises: then it does not matter when the line is lowered.
        records = [*part.interrupts_on(platform), *part.line_on(platform, line, edge=True)]
        ready = len(records) - 1
        turn = [part.take(platform, wait=True), write(slot, 1, 4), *part.end(platform, line)]
        guest.start([*records, *turn * count, *part.power_off(platform)])
        guest.reached(ready)
        found = []
        for _ in range(count):
            time.sleep(0.002)  # until it sleeps
            begin = time.perf_counter()
            guest.set_line(line, level=True)
            os.eventfd_read(bell)
            found.append(time.perf_counter() - begin)
            guest.set_line(line, level=False)
        guest.ended()
    os.close(bell)
    return statistics.median(found) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guest", type=Path, required=True)
    parser.add_argument("--memory", default="256M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-prices", action="store_true")
    parser.add_argument("--in-memory", action="store_true", help="in a rig: files do not come from the host")
    arguments = parser.parse_args()
    if not arguments.no_prices:
        print(prices(), "\n", flush=True)
    found = guests(arguments.guest, arguments.memory, arguments.rounds, in_memory=arguments.in_memory)
    print(table(found))


if __name__ == "__main__":
    main()
