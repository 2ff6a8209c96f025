# SPDX-License-Identifier: MIT
"""A guest's life on the software CPU, beside QEMU's TCG on one thread, in the same run.

    python bench/guest/run.py --guest DIR --arch ARCH [--rounds 3] [--json]

DIR is what ``vdesktop guest build --arch ARCH -o DIR`` made. Subjects take turns; a figure is the median
of the rounds. Kernel, initramfs, command line, memory and devices are the same for both; the disk's file is
in the host's page cache.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import tempfile
import threading
from pathlib import Path

from subject import SUBJECTS, Setting, running

DISK_MIB = 256
STREAM_MIB = 32
#: What runs in the guest, by name. ``/bin/busybox`` keeps the shell from running an applet without fork.
WORKLOADS = {
    "shell loop, 100k": "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done",
    "200 fork+exec": "i=0; while [ $i -lt 200 ]; do /bin/busybox true; i=$((i+1)); done",
    "read 4 KiB direct, x4096": "dd if=/dev/vda of=/dev/null bs=4k count=4096 iflag=direct 2>/dev/null",
    "write 4 KiB direct, x4096": "dd if=/dev/zero of=/dev/vda bs=4k count=4096 oflag=direct 2>/dev/null",
    "read 1 MiB direct, x256": "dd if=/dev/vda of=/dev/null bs=1M count=256 iflag=direct 2>/dev/null",
    "write 1 MiB direct, x256": "dd if=/dev/zero of=/dev/vda bs=1M count=256 oflag=direct 2>/dev/null",
    f"receive {STREAM_MIB} MiB TCP": "nc 10.0.2.2 {port} </dev/null >/dev/null",
    f"send {STREAM_MIB} MiB TCP": (
        f"dd if=/dev/zero bs=64k count={STREAM_MIB * 16} 2>/dev/null | nc 10.0.2.2 {{sink}}"
    ),
}


def serve(sends: bool) -> int:
    """A TCP server on loopback: sends a stream to each client, or takes one. Return its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        while True:
            client, _ = listener.accept()
            with client:
                if sends:
                    client.sendall(bytes(STREAM_MIB << 20))
                else:
                    while client.recv(1 << 16):
                        pass

    threading.Thread(target=work, daemon=True).start()
    return int(listener.getsockname()[1])


def measure(setting: Setting, names: list[str], rounds: int, sink: int) -> dict[str, dict[str, list[float]]]:
    """Return seconds (MiB for memory) by workload and subject, one a round."""
    results: dict[str, dict[str, list[float]]] = {}

    def note(what: str, name: str, value: float) -> None:
        results.setdefault(what, {}).setdefault(name, []).append(value)

    for _ in range(rounds):
        for name in names:
            with running(SUBJECTS[name](setting)) as subject:
                note("command to init", name, subject.boot())
                subject.run("n=0; until ip -4 addr show dev eth0 | grep -q 'inet '; do usleep 100000; done")
                for what, command in WORKLOADS.items():
                    note(what, name, subject.run(command.format(port=setting.share_port, sink=sink)))
                note("host memory over guest RAM, MiB", name, subject.resident_kib() / 1024)
    return results


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Return a Markdown table of medians; the ratio is ours over QEMU's."""
    lines = ["| | ours, s | QEMU, s | ratio |", "|---|---|---|---|"]
    for what, by_name in results.items():
        median = {name: statistics.median(values) for name, values in by_name.items()}
        ours, peer = median.get("vdesktop"), median.get("qemu")
        ratio = f"{ours / peer:.2f}" if ours and peer else "-"
        cells = [f"{value:.2f}" if value is not None else "-" for value in (ours, peer)]
        lines.append(f"| {what} | {cells[0]} | {cells[1]} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guest", type=Path, required=True)
    parser.add_argument("--arch", choices=["x86_64", "aarch64", "riscv64"], required=True)
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--subject", choices=list(SUBJECTS), action="append")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.NamedTemporaryFile(prefix="bench-", suffix=".img") as disk:
        for _ in range(DISK_MIB):
            disk.write(bytes(1 << 20))
        disk.flush()
        setting = Setting(
            arguments.arch, arguments.guest, arguments.memory, Path(disk.name), serve(sends=True)
        )
        results = measure(setting, arguments.subject or list(SUBJECTS), arguments.rounds, serve(sends=False))
    print(json.dumps(results) if arguments.json else table(results))


if __name__ == "__main__":
    main()
