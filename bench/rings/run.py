# SPDX-License-Identifier: MIT
"""Rings: nanoseconds a chain, ours and peers' in the same run.

    python bench/rings/run.py [--rounds 5] [--json] [--libvhost-user DIR]

DIR is a QEMU source tree (its ``subprojects/libvhost-user`` is compiled, nothing is kept). Rounds of the
implementations alternate; a figure is the lowest round's 10th percentile of 20000 batches.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "vdesktop_core" / "native"

Results = dict[tuple[str, str], dict[str, float]]


def compile_ours(where: Path) -> Path:
    subprocess.run(["make", "-s", "-C", NATIVE, f"O={where}/lib"], check=True)
    program = where / "ours"
    sources = [HERE / "rings.c", HERE / "ours.c", where / "lib" / "libvdesktop.a"]
    flags = ["-O2", "-flto=auto", "-pthread", f"-I{NATIVE / 'include'}"]
    subprocess.run(["gcc", *flags, *sources, "-o", program], check=True)
    return program


def compile_libvhost_user(where: Path, qemu: Path) -> Path:
    library = qemu / "subprojects" / "libvhost-user"
    if not (library / "libvhost-user.c").exists():
        sys.exit(f"{qemu}: no subprojects/libvhost-user in it; name the top of a QEMU source tree")
    program = where / "libvhost-user"
    # virtiofsd's copy of the library takes two more arguments.
    more = "p_bad_in" in (library / "libvhost-user.h").read_text()
    flags = ["-O2", "-w", "-D_GNU_SOURCE", f"-DPOP_MORE={',NULL,NULL' if more else ''}"]
    includes = [f"-I{path}" for path in (library, library / "include", qemu / "include")]
    sources = [HERE / "rings.c", HERE / "libvhost_user.c", library / "libvhost-user.c"]
    subprocess.run(["gcc", *flags, *includes, *sources, "-pthread", "-o", program], check=True)
    return program


def measure(programs: list[Path], rounds: int) -> Results:
    best: Results = {}
    for _ in range(rounds):
        for program in programs:
            out = subprocess.run([program], check=True, capture_output=True, text=True).stdout
            for line in out.splitlines():
                row = json.loads(line)
                shape = best.setdefault((row["ring"], row["shape"]), {})
                name = row["implementation"]
                shape[name] = min(shape.get(name, row["ns"]), row["ns"])
    return best


def table(results: Results) -> str:
    """Return a Markdown table; the ratio is ours over the peer."""
    lines = ["| ring | descriptors | ours, ns a chain | libvhost-user | ratio |", "|---|---|---|---|---|"]
    for (ring, shape), ns in results.items():
        ours, peer = ns["vdesktop"], ns.get("libvhost-user")
        other = f"{peer:.1f} | {ours / peer:.2f}" if peer else "- | -"
        lines.append(f"| {ring} | {shape} | {ours:.1f} | {other} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--libvhost-user", type=Path, metavar="DIR", help="top of a QEMU source tree")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as where:
        programs = [compile_ours(Path(where))]
        if options.libvhost_user:
            programs.append(compile_libvhost_user(Path(where), options.libvhost_user))
        results = measure(programs, options.rounds)
    if options.json:
        rows = [{"ring": ring, "shape": shape, "ns": ns} for (ring, shape), ns in results.items()]
        print(json.dumps(rows, indent=2))
    else:
        print(table(results))


if __name__ == "__main__":
    main()
