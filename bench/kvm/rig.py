# SPDX-License-Identifier: MIT
"""Run ``bench/kvm/run.py`` in a rig: on a KVM of QEMU's emulated hardware.

python bench/kvm/rig.py [--arch x86_64] --guest DIR [--rounds 3] [--huge] [--no-prices]
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests/rigs"))

import rig  # noqa: E402

RIGS = {"x86_64": rig.KVM_X86_64, "aarch64": rig.KVM_AARCH64}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--arch", choices=list(RIGS), default="x86_64")
    parser.add_argument("--guest", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--huge", action="store_true", help="shared memory may have huge pages")
    parser.add_argument("--no-prices", action="store_true")
    arguments = parser.parse_args()
    one = RIGS[arguments.arch]
    if one.foreign is not None:
        peer = dataclasses.replace(one.foreign, extra=("qemu-system-arm",))
        one = dataclasses.replace(one, foreign=peer)
    prologue = "mount -t debugfs debug /sys/kernel/debug\n"
    if arguments.huge:
        prologue += "echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled\n"
    one = dataclasses.replace(one, cpus=2, prologue=prologue + one.prologue)
    command = [one.python, "bench/kvm/run.py", "--in-memory", "--guest", str(arguments.guest.resolve())]
    command += ["--no-prices"] if arguments.no_prices else []
    with tempfile.TemporaryDirectory() as scratch:
        image = rig.require(one)
        said = rig.run(one, image, [*command, "--rounds", str(arguments.rounds)], Path(scratch), timeout=3000)
    print(said)


if __name__ == "__main__":
    main()
