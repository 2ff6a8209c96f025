# SPDX-License-Identifier: MIT
"""Requests a second of a guest's disk and network: as a domain, and on the software CPU, in one dom0.

    python bench/xen/guests.py --guest DIR [--reads 500] [--pings 200]

DIR is what ``vdesktop guest build -o DIR`` made. Each request waits for the one before it. Medians of three.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "guest"))

from subject import Subject  # noqa: E402

MEMORY = "256M"
DISK_MIB = 16
PATIENCE = 900
ROUNDS = 3
NETWORK = "until ip -4 addr show dev eth0 | grep -q 'inet '; do usleep 200000; done"


def say(what: str) -> None:
    """Tell what has been found so far: all of it takes minutes."""
    print(what, file=sys.stderr, flush=True)


def machine(backend: str, guest: Path, disk: Path) -> list[str]:
    """The command line of this project."""
    return [
        *(str(Path(sys.executable).with_name("vdesktop")), "run", "--backend", backend, "--memory", MEMORY),
        *("--kernel", str(guest / "kernel"), "--initrd", str(guest / "initrd"), "--console", "stdio"),
        *("--append", "quiet console=hvc0", "--disk", str(disk), "--net", "user"),
    ]


def requests(backend: str, guest: Path, reads: int, pings: int) -> dict[str, float]:
    """Requests a second by what was asked."""
    workloads = {
        "disk: direct reads of 4 KiB": (
            f"dd if=/dev/vda of=/dev/null bs=4k count={reads} iflag=direct 2>/dev/null",
            reads,
        ),
        "network: echo requests": (f"ping -A -q -c {pings} 10.0.2.2 >/dev/null", pings),
    }
    with tempfile.NamedTemporaryFile(prefix="bench-", suffix=".img") as disk:
        disk.write(bytes(DISK_MIB << 20))
        disk.flush()
        subject = Subject(machine(backend, guest, Path(disk.name)))
        try:
            say(f"{backend}: booted in {subject.boot(PATIENCE):.0f} s")
            subject.run(NETWORK, PATIENCE)
            found = {}
            for name, (command, count) in workloads.items():
                subject.run(command, PATIENCE)  # what is read once is in caches
                found[name] = count / statistics.median(subject.run(command, PATIENCE) for _ in range(ROUNDS))
                say(f"{backend}: {name}: {found[name]:.1f} a second")
            return found
        finally:
            # Told to end, it destroys its domain.
            subject.process.terminate()
            subject.process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guest", type=Path, required=True)
    parser.add_argument("--reads", type=int, default=500)
    parser.add_argument("--pings", type=int, default=200)
    options = parser.parse_args()
    mine, peer = (requests(name, options.guest, options.reads, options.pings) for name in ("xen", "tcg"))
    print("| a second | xen | tcg | ratio |\n|---|---|---|---|")
    for name, value in mine.items():
        print(f"| {name} | {value:.0f} | {peer[name]:.0f} | {value / peer[name]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
