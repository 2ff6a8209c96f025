# SPDX-License-Identifier: MIT
"""A domain of xl's with xl's own device model, which is QEMU: our devices are beside its own.

What the domain runs takes the place of hvmloader. Firmware and a Linux would do, too: QEMU gives them their
kernel byte by byte, which takes an emulated processor more than five minutes.
"""

from __future__ import annotations

import signal
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from guest import vdesktop
from vdesktop_xen.hypervisor import XenHypervisor
from xen_tools import domains, event_channels, until

from vdesktop_core.arch.memory_map import memory_map
from vdesktop_core.hypervisor import Arch
from vdesktop_core.testing.registers import MAGIC, Reg

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "beside"
#: Of Debian's package qemu-system-xen.
MODEL = "/usr/libexec/xen-qemu-system-i386"
RESULTS = 0x20_0000
#: The console has the first.
SLOT = memory_map(Arch.X86_64).slot(2).base
#: 32-bit code without paging: registers of a slot, then of QEMU's PCI host bridge.
PROGRAM = f"""
    .globl _start
    .code32
_start:
    movl ${RESULTS:#x}, %edi
    movl ${SLOT:#x}, %esi
    movl {Reg.MAGIC_VALUE:#x}(%esi), %eax
    stosl
    movl {Reg.VERSION:#x}(%esi), %eax
    stosl
    movl {Reg.DEVICE_ID:#x}(%esi), %eax
    stosl
    movl $3, {Reg.STATUS:#x}(%esi)
    movl {Reg.STATUS:#x}(%esi), %eax
    stosl
    movl $0x80000000, %eax
    movw $0xCF8, %dx
    outl %eax, %dx
    movw $0xCFC, %dx
    inl %dx, %eax
    stosl
    movl $1, %eax
    stosl
stop:
    pause
    jmp stop
"""
ENTROPY = 4
#: Intel's 82441FX, which QEMU's machine for Xen has.
HOST_BRIDGE = 0x1237_8086


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[str]:
    """A domain of xl's that does not run yet."""
    source, unlinked, program = (tmp_path / f"program.{kind}" for kind in ("s", "o", "elf"))
    source.write_text(PROGRAM)
    subprocess.run(["as", "--32", source, "-o", unlinked], check=True)
    subprocess.run(["ld", "-N", "-m", "elf_i386", "-Ttext=0x100000", unlinked, "-o", program], check=True)
    settings = tmp_path / "xl.cfg"
    values = {
        "name": NAME,
        "type": "hvm",
        "firmware_override": str(program),
        "device_model_override": MODEL,
        "vga": "none",
    }
    text = "\n".join(f'{key}="{value}"' for key, value in values.items())
    settings.write_text(f"{text}\nmemory=64\nvnc=0\n")
    subprocess.run(["xl", "create", "-p", "-q", settings], check=True)
    yield NAME
    if NAME in domains().values():
        subprocess.run(["xl", "destroy", NAME], check=True)


def results() -> tuple[int, ...]:
    """What the program has written."""
    attached = XenHypervisor().attach(NAME)
    regions = attached.regions()
    base, region = next((gpa, each) for gpa, each in regions.items() if gpa <= RESULTS < gpa + each.size)
    found = struct.unpack_from("<6I", region.view, RESULTS - base)
    attached.close()
    for each in regions.values():
        each.close()
    return found


def test_devices_answer_beside_qemus_and_their_end_is_told(domain: str) -> None:
    channels = event_channels()
    command = vdesktop("attach", "--domain", domain, "--console", "none", "--stats", "json")
    for killed in (True, False):  # what the first leaves is in nobody's way
        served = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert served.stderr is not None
        if not killed:
            assert "the process that served them was killed" in served.stderr.readline()
        assert served.stderr.readline() == f"vdesktop: {domain} has its devices: it may run\n"
        if killed:
            served.send_signal(signal.SIGKILL)
            served.communicate()
    subprocess.run(["xl", "unpause", domain], check=True)
    until(lambda: results()[5] == 1, "the program does not end")
    assert results()[:5] == (MAGIC, 2, ENTROPY, 3, HOST_BRIDGE)
    subprocess.run(["xl", "destroy", domain], check=True)
    said = served.communicate(timeout=120)[1]
    assert served.returncode == 1
    assert '"exits_mmio": 5' in said
    assert said.splitlines()[-1].endswith("was destroyed from outside")
    until(lambda: event_channels() <= channels, "event channels are left")
