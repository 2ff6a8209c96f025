# SPDX-License-Identifier: MIT
"""Domains as others see them, and ends that nobody chose: one line says what, and nothing is left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from vdesktop_xen import marks
from vdesktop_xen._xen import ffi, lib
from vdesktop_xen.hypervisor import XenHypervisor
from vdesktop_xen.store import Store
from xen_tools import domains, event_channels, until

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Arch, ExitReason
from vdesktop_core.memory import PAGE_SIZE
from vdesktop_core.testing.conformance.guest import Guest
from vdesktop_core.testing.conformance.program import count, read, write

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A process that makes a domain, says its number, and waits.
VICTIM = """
import sys, time
from vdesktop_core.hypervisor import Arch, VmSpec
from vdesktop_xen.hypervisor import XenHypervisor
machine = XenHypervisor().create(VmSpec(Arch.X86_64, 1, "victim"))
machine.allocate_memory(0, "ram", 4 << 20)
print(machine.domain, flush=True)
time.sleep(600)
"""


@pytest.fixture
def guest() -> Iterator[Guest]:
    with Guest(XenHypervisor(), Arch.X86_64) as guest:
        yield guest


def test_domain_has_its_name_while_it_exists_and_leaves_nothing() -> None:
    before = domains(), event_channels()
    with Guest(XenHypervisor(), Arch.X86_64) as guest:
        domain = guest.vm.domain  # type: ignore[attr-defined]
        guest.start([count(guest.data)])
        assert domains() == before[0] | {domain: "conformance"}
        with Store() as store:
            assert store.read(f"/local/domain/{domain}/name") == "conformance"
    assert (domains(), event_channels()) == before
    with Store() as store:
        assert store.read(f"/local/domain/{domain}/name") is None
        assert store.read(f"{marks.vm_path(marks.mine())}/name") is None


def test_domain_destroyed_from_outside_in_the_middle_of_requests_is_an_error(guest: Guest) -> None:
    slot = guest.map.slot(1).base
    guest.device(slot)
    guest.start([write(guest.data, 1), read(slot, 4, times=1 << 40)])
    guest.reached(0)
    domain = guest.vm.domain  # type: ignore[attr-defined]
    subprocess.run(["xl", "destroy", str(domain)], check=True)
    event = guest.ended()
    assert event.reason is ExitReason.ERROR
    assert event.detail == f"domain {domain} was destroyed from outside"
    guest.set_line(guest.line, level=True)  # a device that does not know yet
    with pytest.raises(BackendError, match="the domain is gone"):
        guest.start([])
    guest.close()
    until(lambda: domain not in domains(), "the domain is left")


def test_domain_of_a_killed_process_is_destroyed_by_the_next() -> None:
    channels = event_channels()
    victim = subprocess.Popen([sys.executable, "-c", VICTIM], stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    domain = int(victim.stdout.readline())
    assert domains()[domain] == "victim"
    assert marks.sweep() == 0, "its process lives"
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    assert domain in domains()
    with Guest(XenHypervisor(), Arch.X86_64) as guest:
        assert domain not in domains()
        assert guest.run([write(guest.data, 5)]).reason is ExitReason.SHUTDOWN
    with Store() as store:
        assert store.read(f"/local/domain/{domain}/name") is None
    until(lambda: event_channels() == channels, "event channels are left")


def test_process_that_is_told_to_end_destroys_its_domain() -> None:
    program = VICTIM.replace("time.sleep(600)", "sys.exit(0)")
    victim = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert int(victim.stdout) not in domains()


def test_memory_that_xen_does_not_have_is_refused_and_none_is_kept(guest: Guest) -> None:
    with pytest.raises(BackendError, match="out of memory"):
        guest.vm.allocate_memory(1 << 32, "huge", 1 << 40)
    for gpa, size in ((0x1234, 4096), (1 << 32, 100), ((1 << 64) - 4096, 8192)):
        with pytest.raises(BackendError, match="whole pages"):
            guest.vm.allocate_memory(gpa, "odd", size)
    assert guest.run([write(guest.data, 5)]).reason is ExitReason.SHUTDOWN


def test_page_that_the_domain_gave_back_harms_nobody_and_is_there_again_after_a_reset(guest: Guest) -> None:
    assert guest.run([write(guest.data, 5)]).reason is ExitReason.SHUTDOWN
    domain = guest.vm.domain  # type: ignore[attr-defined]
    ctrl = ctypes.CDLL("libxenctrl.so.4.17")
    ctrl.xc_interface_open.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(ctrl.xc_interface_open(None, None, 0))
    frame = ctypes.c_ulong(guest.data // PAGE_SIZE)
    gave = ctrl.xc_domain_decrease_reservation_exact(
        handle, domain, ctypes.c_ulong(1), 0, ctypes.byref(frame)
    )
    assert gave == 0
    guest.poke(guest.data, 6)  # a device that writes there: a page that is nobody's any more
    attached = XenHypervisor().attach(str(domain))
    regions = attached.regions()
    ends = [gpa + region.size for gpa, region in regions.items()]
    assert guest.data in ends, "a page that cannot be mapped is left out"
    attached.close()
    for region in regions.values():
        region.close()
    guest.vm.reset()
    assert guest.run([write(guest.data + 8, 7)]).reason is ExitReason.SHUTDOWN
    assert (guest.peek(guest.data), guest.peek(guest.data + 8)) == (0, 7)
    ctrl.xc_interface_close(handle)


def test_process_without_rights_is_told_so() -> None:
    hypervisor = XenHypervisor()
    assert hypervisor.probe().available  # everything is imported now
    mine, its = os.pipe()
    if (child := os.fork()) == 0:
        os.setuid(65534)
        os.write(its, hypervisor.probe().reason.encode())
        os._exit(0)
    os.waitpid(child, 0)
    reason = os.read(mine, 1000).decode()
    os.close(mine)
    os.close(its)
    assert "run it as root" in reason


def test_flood_of_requests_by_two_cpus_keeps_nobody_from_ending_it() -> None:
    with Guest(XenHypervisor(), Arch.X86_64, 2) as guest:
        slot = guest.map.slot(1).base
        taken = []
        guest.device(slot, on_write=lambda offset, _value: taken.append(offset))
        guest.load([write(slot + 8, 1, 4, times=1 << 40)], cpu=1)
        start = guest.part.start_cpu(guest.platform, 1, guest.records(1))
        guest.start([*start, write(slot, 1, 4, times=1 << 40)])
        guest.until(lambda: {0, 8} <= set(taken[-50:]), "one CPU keeps the other from its answers")
        guest.vm.pause()
        seen = len(taken)
        time.sleep(0.1)
        assert len(taken) - seen <= 2, "paused, and still running"
        guest.vm.resume()
        guest.vm.stop()


def test_crash_says_where(guest: Guest) -> None:
    from vdesktop_core.testing.conformance.program import Kind, Record

    guest.start([Record(Kind.CRASH)])
    event = guest.ended()
    assert event.reason is ExitReason.CRASH
    assert event.detail.startswith("triple fault, or the guest's own crash: CPU 0: rip=0x")


def test_watch_of_xenstore_hears_of_changes_and_of_domains_that_end() -> None:
    heard: list[str] = []
    with Store() as store, Store() as other:
        store.watch(("/vdesktop-test", "@releaseDomain"), heard.append, lambda: heard.append("lost"))
        # A watch says itself when it begins; a domain of another test may still be going.
        until(lambda: {"/vdesktop-test", "@releaseDomain"} <= set(heard), "a watch did not begin")
        other.write({"/vdesktop-test/a": "1"})
        until(lambda: "/vdesktop-test/a" in heard, "a change was not heard")
        with Guest(XenHypervisor(), Arch.X86_64):
            heard.clear()
        until(lambda: "@releaseDomain" in heard, "the end of a domain was not heard")
        other.delete("/vdesktop-test")
    assert "lost" not in heard
    assert not [thread for thread in threading.enumerate() if thread.name == "vd-xenstore"]


def test_structures_are_as_large_as_this_xens() -> None:
    """The hypervisor itself refuses a wrong size or version; this is for what it does not check."""
    domain, mark = ffi.new("uint32_t *"), ffi.new("uint8_t[16]")
    assert lib.vx_domains(0, 1, domain, mark) == 1
    assert domain[0] == 0
    assert bytes(mark) == bytes(16)
