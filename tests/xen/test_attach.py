# SPDX-License-Identifier: MIT
"""Devices for a domain that another process made, and serves in part."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from vdesktop_xen.hypervisor import XenHypervisor

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Arch, ExitReason
from vdesktop_core.memory import PAGE_SIZE
from vdesktop_core.testing.conformance.guest import Guest
from vdesktop_core.testing.conformance.program import read, until, write
from vdesktop_core.testing.registers import MAGIC, Reg

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def guest() -> Iterator[Guest]:
    with Guest(XenHypervisor(), Arch.X86_64) as guest:
        yield guest


def vdesktop(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("vdesktop")), *arguments]


def test_attached_devices_answer_beside_the_domains_own_model(guest: Guest) -> None:
    domain = guest.vm.domain  # type: ignore[attr-defined]
    slot = guest.map.slot(2).base  # the console has the first
    command = vdesktop("attach", "--domain", "conformance", "--console", "none", "--stats", "json")
    served = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert served.stderr is not None
    assert served.stderr.readline() == "vdesktop: conformance has its devices: it may run\n"
    go = guest.data
    words = [read(slot + register, 4) for register in (Reg.MAGIC_VALUE, Reg.VERSION, Reg.DEVICE_ID)]
    status = [write(slot + Reg.STATUS, 3, 4), read(slot + Reg.STATUS, 4)]
    guest.start([until(go, 1), *words, *status, *guest.part.power_off(guest.platform)])
    guest.poke(go, 1)
    assert guest.ended().reason is ExitReason.SHUTDOWN
    assert [guest.result(index) for index in (1, 2, 3, 5)] == [MAGIC, 2, 4, 3]
    said = served.communicate(timeout=60)[1]
    assert served.returncode == 0, said
    assert '"exits_mmio": 5' in said
    assert str(domain) in subprocess.run(["xl", "list"], capture_output=True, text=True, check=True).stdout


def test_attach_maps_around_holes(guest: Guest) -> None:
    hole = guest.base + 64 * PAGE_SIZE
    size = guest.ram.size
    guest.vm.allocate_memory(guest.base + size + 2 * PAGE_SIZE, "beyond", PAGE_SIZE)
    attached = XenHypervisor().attach("conformance")
    regions = attached.regions()
    assert [(gpa, region.size) for gpa, region in regions.items()] == [
        (guest.base, size),
        (guest.base + size + 2 * PAGE_SIZE, PAGE_SIZE),
    ]
    guest.poke(hole, 77)
    assert regions[guest.base].view[hole - guest.base] == 77
    attached.close()
    for region in regions.values():
        region.close()


@pytest.mark.parametrize(
    ("target", "said"), [("nobody", "no domain is named 'nobody'"), ("31999", "there is no domain 31999")]
)
def test_attach_to_nobody_is_one_line(target: str, said: str) -> None:
    with pytest.raises(BackendError, match=said):
        XenHypervisor().attach(target)


def test_attach_to_dom0_is_refused() -> None:
    with pytest.raises(BackendError, match="domain 0 is not an HVM one"):
        XenHypervisor().attach("0")
