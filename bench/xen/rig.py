# SPDX-License-Identifier: MIT
"""Run ``bench/xen/run.py`` and ``guests.py`` in a rig: in the dom0 of a Xen on QEMU's emulated hardware.

python bench/xen/rig.py --guest DIR [--requests]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests/rigs"))

import rig  # noqa: E402
import xen_rig  # noqa: E402


def bare(folder: Path) -> Path:
    """Compile the peer of the round trips."""
    native, program = ROOT / "backends/xen/vdesktop_xen/native", folder / "bare"
    include = ROOT / "vdesktop_core/native/include"
    sources = [HERE / "bare.c", native / "library.c"]
    flags = ["-std=gnu11", "-O2", f"-I{native}", f"-I{include}", "-ldl"]
    subprocess.run(["gcc", *sources, *flags, "-o", program], check=True)
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guest", type=Path, required=True)
    parser.add_argument("--requests", action="store_true", help="the software CPU's take minutes")
    options = parser.parse_args()
    one = xen_rig.XEN_X86_64
    guest = str(options.guest.resolve())
    # Not in /tmp, which is another one in a rig.
    with tempfile.TemporaryDirectory(dir=shared()) as name:
        folder = Path(name)
        if options.requests:
            command = [one.python, "bench/xen/guests.py", "--guest", guest]
        else:
            command = [one.python, "bench/xen/run.py", "--guest", guest, "--bare", str(bare(folder))]
        image = rig.require(one)
        xen_rig.fetch_xen()
        print(rig.run(one, image, command, folder, timeout=3000))


def shared() -> Path:
    """A folder that a rig sees as it is."""
    folder = ROOT / ".cache/rigs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
