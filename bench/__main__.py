# SPDX-License-Identifier: MIT
"""Every benchmark, one after another: ``python -m bench [--guests DIR] [--rounds 3] [--libvhost-user DIR]``.

Guests are built into DIR (default: ``.cache/guests``) where they are missing. Tables are printed as Markdown;
those of docs/performance.md came from here, on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ARCHES = ("x86_64", "aarch64", "riscv64")


def run(title: str, *command: str | Path) -> None:
    """Run one benchmark under a heading."""
    print(f"\n## {title}\n", flush=True)
    subprocess.run([sys.executable, *map(str, command)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--guests", type=Path, default=HERE.parent / ".cache" / "guests")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--libvhost-user", metavar="QEMU_SOURCE")
    arguments = parser.parse_args()
    peer = ["--libvhost-user", arguments.libvhost_user] if arguments.libvhost_user else []
    run("Rings", HERE / "rings" / "run.py", *peer)
    run("Disk", HERE / "blk" / "run.py")
    run("Display", HERE / "display" / "run.py", *(["--qemu"] if shutil.which("qemu-system-x86_64") else []))
    run("Screen", HERE / "screen" / "run.py")
    for arch in ARCHES:
        guest = arguments.guests / f"{arch}-trixie"
        if not (guest / "machine.toml").exists():
            vdesktop = Path(sys.executable).with_name("vdesktop")
            subprocess.run([vdesktop, "guest", "build", "--arch", arch, "-o", guest], check=True)
        run(f"Keys and pointer, {arch}", HERE / "input" / "run.py", "--guest", guest, "--arch", arch)
        run(f"Start, {arch}", HERE / "start" / "run.py", "--guest", guest, "--arch", arch)
        options = ("--guest", guest, "--arch", arch, "--rounds", str(arguments.rounds))
        run(f"Guest, {arch}", HERE / "guest" / "run.py", *options)


if __name__ == "__main__":
    main()
