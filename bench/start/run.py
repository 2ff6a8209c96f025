# SPDX-License-Identifier: MIT
"""From the command to the guest's first instruction.

    python bench/start/run.py --guest DIR --arch ARCH [--rounds 15] [--json]

DIR is what ``vdesktop guest build`` made. The moment is that of the log line ``started on …``, written when
the vCPUs have been let go; a first run that fills caches is not counted. No peer: QEMU does not say when.
On a machine that does other work, the CPU time of the command's own thread tells more than the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def once(guest: Path, arch: str) -> tuple[float, float]:
    """Return milliseconds, on the clock and of CPU time."""
    command = [
        *(str(Path(sys.executable).with_name("vdesktop")), "run", "--backend", "tcg", "--arch", arch),
        *("--kernel", str(guest / "kernel"), "--initrd", str(guest / "initrd"), "--append", "quiet"),
        *("--console", "none", "--log-level", "info"),
    ]
    begin = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        taken = time.monotonic() - begin
        # The first field: ns on a CPU (Linux Documentation/scheduler/sched-stats.rst).
        spent = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0])
        process.kill()
    if b"started on" not in line:
        sys.exit(f"the machine did not start: {line.decode(errors='replace').strip()}")
    return taken * 1000, spent / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guest", type=Path, required=True)
    parser.add_argument("--arch", choices=["x86_64", "aarch64", "riscv64"], required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    once(arguments.guest, arguments.arch)
    rounds = [once(arguments.guest, arguments.arch) for _ in range(arguments.rounds)]
    figures = {
        name: sorted(values) for name, values in zip(("clock", "CPU"), zip(*rounds, strict=True), strict=True)
    }
    if arguments.json:
        print(json.dumps(figures))
        return
    print("| ms | least | median | most |\n|---|---|---|---|")
    for name, values in figures.items():
        print(f"| {name} | {values[0]:.0f} | {statistics.median(values):.0f} | {values[-1]:.0f} |")


if __name__ == "__main__":
    main()
