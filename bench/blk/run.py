# SPDX-License-Identifier: MIT
"""Disk: random reads through a virtio-blk slot, and the bare preadv below it, in the same run.

    python bench/blk/run.py [--rounds 3] [--seconds 1] [--block 4096] [--file FILE] [--json]

``inline``: the kick is served on the thread that kicks, as on the software CPU; ``loop``: on the I/O
thread, as with an ioeventfd. FILE (default: 256 MiB on tmpfs) is read into the page cache first. Modes
alternate; a figure is the best round's. CPU time is the whole process's, driver included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "vdesktop_core" / "native"
MODES = ("preadv", "inline", "loop")
DEPTHS = (1, 32, 128)
FILE_BYTES = 256 << 20

Results = dict[int, dict[str, dict[str, float]]]


def compile_bench(where: Path) -> Path:
    subprocess.run(["make", "-s", "-C", NATIVE, f"O={where}/lib"], check=True)
    program = where / "blk"
    sources = [HERE / "blk.c", where / "lib" / "libvdesktop.a"]
    subprocess.run(
        ["gcc", "-O2", f"-I{NATIVE / 'include'}", *sources, "-pthread", "-ldl", "-o", program], check=True
    )
    return program


def measure(program: Path, file: Path, rounds: int, seconds: float, block: int) -> Results:
    best: Results = {}
    for _ in range(rounds):
        for depth in DEPTHS:
            for mode in MODES:
                command = [program, file, mode, str(depth), str(block), str(seconds)]
                row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                kept = best.setdefault(depth, {}).setdefault(mode, row)
                kept["iops"] = max(kept["iops"], row["iops"])
                kept["cpu_us"] = min(kept["cpu_us"], row["cpu_us"])
    return best


def table(results: Results) -> str:
    """Return a Markdown table; the ratio is a mode's IOPS over bare preadv's."""
    lines = ["| depth | mode | thousand IOPS | of preadv | CPU µs an operation |", "|---|---|---|---|---|"]
    for depth, modes in results.items():
        floor = modes["preadv"]["iops"]
        for mode, row in modes.items():
            iops, cpu = row["iops"], row["cpu_us"]
            lines.append(f"| {depth} | {mode} | {iops / 1e3:.0f} | {iops / floor:.2f} | {cpu:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as where, tempfile.NamedTemporaryFile(dir="/dev/shm") as scratch:
        file = options.file or Path(scratch.name)
        if options.file is None:
            for _ in range(FILE_BYTES >> 20):
                scratch.write(os.urandom(1 << 20))
            scratch.flush()
        else:
            with file.open("rb") as cold:
                while cold.read(1 << 20):
                    pass
        program = compile_bench(Path(where))
        results = measure(program, file, options.rounds, options.seconds, options.block)
    print(json.dumps(results, indent=2) if options.json else table(results))


if __name__ == "__main__":
    main()
