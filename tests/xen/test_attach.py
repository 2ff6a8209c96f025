# SPDX-License-Identifier: MIT
"""Devices for a domain that another process made, and serves in part."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from vdesktop_xen import servers
from vdesktop_xen.hypervisor import XenHypervisor
from vdesktop_xen.store import Store
from xen_tools import event_channels
from xen_tools import until as wait_until

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Arch, ExitReason
from vdesktop_core.memory import PAGE_SIZE
from vdesktop_core.testing.conformance.guest import Guest
from vdesktop_core.testing.conformance.program import read, until, write
from vdesktop_core.testing.registers import MAGIC, Reg

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A process that serves one slot of a domain, raises its line, and is killed by the first write to it.
VICTIM = """
import os, signal, sys
from vdesktop_core._native import ffi
from vdesktop_core.testing.conformance.guest import Device
from vdesktop_xen.hypervisor import XenHypervisor
machine = XenHypervisor().attach("conformance")
device = Device(on_write=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
machine.add_mmio(int(sys.argv[1]), 4096, device.native)
machine.start(print)
irq = ffi.cast("struct vd_irq *", machine.irq_line(int(sys.argv[2])))
irq.set(irq.opaque, True)
print("served", flush=True)
signal.pause()
"""


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


def test_server_of_a_killed_process_is_ended_by_the_next_and_the_guest_goes_on(guest: Guest) -> None:
    channels = event_channels()
    go, slot = guest.data, guest.map.slot(2).base
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(slot), str(guest.line)], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == "served\n"
    with Store() as store:
        assert len(store.list(servers.ROOT)) == 1
    assert servers.sweep() == 0, "its process lives"
    magic = read(slot + Reg.MAGIC_VALUE, 4)
    guest.start([write(slot, 1, 4), until(go, 1), magic, *guest.part.power_off(guest.platform)])
    assert victim.wait() == -signal.SIGKILL
    victim.stdout.close()
    assert not guest.executed(0), "the CPU has its answer from nobody"
    command = vdesktop("attach", "--domain", "conformance", "--console", "none")
    served = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert served.stderr is not None
    assert "the process that served them was killed" in served.stderr.readline()
    assert served.stderr.readline() == "vdesktop: conformance has its devices: it may run\n"
    guest.reached(0)
    guest.poke(go, 1)
    assert guest.ended().reason is ExitReason.SHUTDOWN
    assert guest.result(2) == MAGIC
    assert served.wait(60) == 0
    served.stderr.close()
    with Store() as store:
        assert store.list(servers.ROOT) == []
    wait_until(lambda: event_channels() <= channels, "event channels are left")


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
