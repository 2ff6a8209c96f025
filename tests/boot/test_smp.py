# SPDX-License-Identifier: MIT
"""Several CPUs: tests that tell a right machine from one that only looks it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from guest import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guest import Guest, Image

#: Where ``--cpus`` says nothing else.
CPUS = 4
ROUNDS = 120

#: ELF machine, code of exit(0), and where and how the status is in it, as shell arithmetic.
EXIT_CODE = {
    "x86_64": (62, bytes.fromhex("bf00000000 b83c000000 0f05"), 1, ("n", "0")),
    "aarch64": (183, struct.pack("<III", 0xD2800000, 0xD2800BA8, 0xD4000001), 0, ("(n<<5)&255", "n>>3")),
    "riscv64": (243, struct.pack("<III", 0x00000513, 0x05D00893, 0x00000073), 2, ("(n<<4)&255", "n>>4")),
}
HEADER_BYTES = 64 + 56


def exit_program(machine: int, code: bytes) -> bytes:
    """An ELF of one page that runs some code."""
    base = 0x400000
    size = HEADER_BYTES + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\2\1\1",
        2,
        machine,
        1,
        base + HEADER_BYTES,
        64,
        0,
        0,
        64,
        56,
        1,
        0,
        0,
        0,
    )
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096) + code


@dataclass(frozen=True)
class Smp:
    """A guest, and how many CPUs it has."""

    guest: Guest
    cpus: int

    def run(self, command: str, timeout: float = 90) -> str:
        return self.guest.run(command, timeout=timeout)


@pytest.fixture(scope="module")
def smp(
    request: pytest.FixtureRequest, arch_image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Smp]:
    cpus = request.config.getoption("--cpus") or CPUS
    with running(arch_image, tmp_path_factory.mktemp(arch_image.name), "--cpus", str(cpus)) as guest:
        yield Smp(guest, cpus)


def test_smp_all_cpus_are_online_and_take_interrupts(smp: Smp) -> None:
    assert smp.run("nproc") == str(smp.cpus)
    assert smp.run("cat /sys/devices/system/cpu/online") == f"0-{smp.cpus - 1}"
    masks = " ".join(f"{1 << cpu:x}" for cpu in range(smp.cpus))
    assert smp.run(f"for c in {masks}; do taskset $c sh -c 'echo -n 1'; done") == "1" * smp.cpus


def test_smp_rewritten_program_is_never_run_stale(smp: Smp) -> None:
    machine, code, offset, (low, high) = EXIT_CODE[smp.guest.image.arch]
    octal = "".join(f"\\{byte:03o}" for byte in exit_program(machine, code))
    smp.run(f"printf '{octal}' >/tmp/program; chmod +x /tmp/program")
    smp.run(
        f'rewrite() {{ printf "\\\\$(printf %03o $(({low})))\\\\$(printf %03o $(({high})))" | '
        f"taskset $1 dd of=/tmp/program bs=1 seek={HEADER_BYTES + offset} conv=notrunc 2>/dev/null; }}"
    )
    # Written on one CPU, run on all others, which have all run the version before.
    turns = " ".join(map(str, range(1, smp.cpus + 1)))
    loop = (
        f"stale=0 runs=0 i=0; while [ $i -lt {ROUNDS} ]; do n=$((i%100+1)); "
        f"rewrite $((1<<(i%{smp.cpus}))); "
        f"for c in {turns}; do taskset $((1<<((i+c)%{smp.cpus}))) /tmp/program; "
        "[ $? -eq $n ] || stale=$((stale+1)); runs=$((runs+1)); done; i=$((i+1)); done; echo $runs $stale"
    )
    assert smp.run(loop, timeout=270) == f"{smp.cpus * ROUNDS} 0"


def test_smp_cpu_goes_offline_and_comes_back(smp: Smp) -> None:
    online = f"/sys/devices/system/cpu/cpu{smp.cpus - 1}/online"
    for _ in range(3):
        smp.run(f"echo 0 >{online}")
        assert smp.run("nproc") == str(smp.cpus - 1)
        smp.run(f"echo 1 >{online}")
        assert smp.run("nproc") == str(smp.cpus)
    assert smp.run(f"taskset {1 << (smp.cpus - 1):x} echo back") == "back"


def test_smp_processes_on_all_cpus_talk_through_a_pipe(smp: Smp) -> None:
    pipeline = " | ".join(f"taskset {1 << cpu:x} cat" for cpu in range(smp.cpus))
    smp.run("dd if=/dev/urandom of=/tmp/data bs=64k count=32 2>/dev/null")
    expected = smp.run("sha256sum </tmp/data").split()[0]
    assert smp.run(f"cat /tmp/data | {pipeline} | sha256sum", timeout=200).split()[0] == expected
