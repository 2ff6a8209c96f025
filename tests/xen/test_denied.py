# SPDX-License-Identifier: MIT
"""What a host refuses in the middle of things: one line says what, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from vdesktop_xen._xen import ffi, lib
from vdesktop_xen.hypervisor import XenHypervisor
from vdesktop_xen.store import Store
from xen_tools import domains, event_channels, until

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Arch, ExitReason
from vdesktop_core.testing.conformance.guest import Guest
from vdesktop_core.testing.conformance.program import count, write

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Daemons of dom0; the second is the first's client.
XENSTORED, XENCONSOLED = Path("/run/xenstored.pid"), Path("/run/xenconsoled.pid")
#: A process that may have so many bytes more than it has, and makes a domain of 64 MiB.
HUNGRY = """
import resource, sys
from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Arch
from vdesktop_core.testing.conformance.guest import Guest
from vdesktop_core.testing.conformance.program import write
from vdesktop_xen.hypervisor import XenHypervisor

with Guest(XenHypervisor(), Arch.X86_64) as guest:  # everything is loaded
    guest.run([write(guest.data, 5)])
pages = int(open("/proc/self/statm").read().split()[0])
with Guest(XenHypervisor(), Arch.X86_64) as guest:
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + int(sys.argv[1]), -1))
    try:
        guest.vm.allocate_memory(1 << 32, "more", 64 << 20)
    except BackendError as error:
        print(error)
    print(guest.run([write(guest.data, 5)]).reason)
"""


def numbers() -> set[int]:
    """Domains that Xen has, without asking XenStore."""
    found, unused = ffi.new("uint32_t[]", 64), ffi.new("uint8_t[]", 16 * 64)
    return {found[index] for index in range(lib.vx_domains(1, 64, found, unused))}


def test_host_without_memory_says_whose_it_is_and_the_domain_lives() -> None:
    before = domains(), event_channels()
    command = [sys.executable, "-c", HUNGRY, str(32 << 20)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line, reason = done.stdout.splitlines()
    assert "this host (dom0) is out of memory" in line
    assert reason == ExitReason.SHUTDOWN
    assert (domains(), event_channels()) == before


@pytest.fixture
def dying() -> Iterator[int]:
    """The daemon's process; afterwards there is another one."""
    if not XENSTORED.is_file():
        pytest.skip("xenstored is not this host's to end: only in a rig")
    yield int(XENSTORED.read_text())
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(XENCONSOLED.read_text()), signal.SIGKILL)
    for path in (XENSTORED, XENCONSOLED):
        path.unlink(missing_ok=True)
    for command in (
        ["xenstored", f"--pid-file={XENSTORED}"],
        ["xen-init-dom0"],
        ["xenconsoled", f"--pid-file={XENCONSOLED}"],
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


# Where nobody answers, pyxs leaves its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_xenstored_that_dies_ends_no_run_and_denies_the_next(dying: int) -> None:
    before = numbers()
    with Guest(XenHypervisor(), Arch.X86_64) as guest:
        go = guest.data
        guest.start([count(go)])
        until(lambda: guest.peek(go) > 0, "the guest does not run")
        os.kill(dying, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{dying}").exists(), "the daemon lives")
        seen = guest.peek(go)
        until(lambda: guest.peek(go) > seen, "the guest stopped with the daemon")
        with pytest.raises(BackendError, match="is xenstored running"), Store():
            pass
        with pytest.raises(BackendError, match="is xenstored running"):
            Guest(XenHypervisor(), Arch.X86_64).close()
        assert len(numbers()) == len(before) + 1, "a domain that could not be registered is left"
        guest.vm.stop()
        guest.vm.reset()
        assert guest.run([write(go, 5)]).reason is ExitReason.SHUTDOWN
    until(lambda: numbers() == before, "a domain is left")
