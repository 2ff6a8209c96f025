# SPDX-License-Identifier: MIT
"""From the command to the guest's first instruction.

    python bench/start/run.py --guest DIR --arch ARCH [--rounds 15] [--json]

DIR is what ``vdesktop guest build`` made. The moment is that of the log line ``started on …``, written when
the vCPUs have been let go; a first run that fills caches is not counted. No peer: QEMU does not say when.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def once(guest: Path, arch: str) -> float:
    """Return milliseconds."""
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
        process.kill()
    if b"started on" not in line:
        sys.exit(f"the machine did not start: {line.decode(errors='replace').strip()}")
    return taken * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guest", type=Path, required=True)
    parser.add_argument("--arch", choices=["x86_64", "aarch64", "riscv64"], required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    once(arguments.guest, arguments.arch)
    taken = sorted(once(arguments.guest, arguments.arch) for _ in range(arguments.rounds))
    if arguments.json:
        print(json.dumps(taken))
        return
    print("| | ms |\n|---|---|")
    print(
        f"| least | {taken[0]:.0f} |\n| median | {statistics.median(taken):.0f} |\n| most | {taken[-1]:.0f} |"
    )


if __name__ == "__main__":
    main()
