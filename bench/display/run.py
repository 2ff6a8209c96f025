# SPDX-License-Identifier: MIT
"""What showing a screen costs: ``run.py [--seconds 3] [--qemu]``.

One picture of 1920 x 1080 after another, each asked for as a whole by a client that throws it away, and the
processor time that the server takes for each. Then a screen that does not change, and the way of a key.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from client import EFFORT_1, QUALITY_6, RAW, TIGHT, ZRLE, Sink
from pictures import PICTURES
from qemu import Qemu

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ENCODINGS = {
    "Raw": (RAW,),
    "ZRLE": (ZRLE, EFFORT_1),
    "Tight": (TIGHT, EFFORT_1),
    "Tight, JPEG quality 6": (TIGHT, EFFORT_1, QUALITY_6),
}
QEMU_PORT = 5978


def processor_seconds(pid: int) -> float:
    """User and system time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def ours(picture: Path) -> Iterator[tuple[int, int]]:
    """Our server: its process and port."""
    command = [sys.executable, HERE / "ours.py", picture]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.pid, int(process.stdout.readline())
        process.communicate()


@contextlib.contextmanager
def qemu(picture: Path) -> Iterator[tuple[int, int]]:
    """The peer's."""
    with tempfile.TemporaryDirectory() as folder:
        peer = Qemu(Path(folder), QEMU_PORT, picture.read_bytes())
        try:
            yield peer.process.pid, QEMU_PORT
        finally:
            peer.close()


def pictures_of(
    pid: int, port: int, encodings: tuple[int, ...], seconds: float
) -> tuple[float, float, float]:
    """Milliseconds of the processor's and MB a picture, pictures a second."""
    sink = Sink(port, *encodings)
    sink.request()
    sink.picture()
    count, sink.bytes = 0, 0
    cost, start = processor_seconds(pid), time.monotonic()
    while (taken := time.monotonic() - start) < seconds:
        sink.request()
        sink.picture()
        count += 1
    cost = processor_seconds(pid) - cost
    sink.sock.close()
    return 1000 * cost / count, sink.bytes / count / 1e6, count / taken


def idle(pid: int, port: int, seconds: float) -> float:
    """Percent of a core while nothing changes, with a client that waits."""
    sink = Sink(port, TIGHT, EFFORT_1)
    sink.request()
    sink.picture()
    sink.request(incremental=True)
    time.sleep(1)
    before = processor_seconds(pid)
    time.sleep(seconds)
    cost = processor_seconds(pid) - before
    sink.sock.close()
    return 100 * cost / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--qemu", action="store_true", help="measure QEMU's server, too")
    arguments = parser.parse_args()
    servers = {"ours": ours} | ({"QEMU": qemu} if arguments.qemu else {})
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in PICTURES}
        for name, path in files.items():
            path.write_bytes(PICTURES[name]())
        print("| picture | encoding | server | CPU ms a picture | one core could | seen a second | MB |")
        print("|---|---|---|---|---|---|---|")
        for name, path in files.items():
            for server, start in servers.items():
                with start(path) as (pid, port):
                    for encoding, codes in ENCODINGS.items():
                        cost, size, rate = pictures_of(pid, port, codes, arguments.seconds)
                        could = f"{1000 / cost:.0f}" if cost else "-"
                        row = (name, encoding, server, f"{cost:.1f}", could, f"{rate:.0f}", f"{size:.2f}")
                        print("| " + " | ".join(row) + " |", flush=True)
        print("\n| server | percent of a core, unchanged screen, one client |")
        print("|---|---|")
        for server, start in servers.items():
            with start(files["text"]) as (pid, port):
                print(f"| {server} | {idle(pid, port, 4 * arguments.seconds):.2f} |", flush=True)
        print("\n| from the socket to the input device | median µs | 99th percentile |")
        print("|---|---|---|", flush=True)
        subprocess.run([sys.executable, HERE / "ours.py", "--latency", files["photograph"]], check=True)


if __name__ == "__main__":
    main()
