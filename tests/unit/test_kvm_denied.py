# SPDX-License-Identifier: MIT
"""The kvm backend on a host that denies it something: one line that says what, and nothing left behind.

The host's own KVM is used, also one that cannot run Linux: no guest code is needed for this.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEVICE = "/dev/kvm"
pytestmark = [
    pytest.mark.host("a /dev/kvm"),
    pytest.mark.skipif(not os.access(DEVICE, os.R_OK | os.W_OK), reason=f"no {DEVICE} that may be opened"),
]
#: ioctl numbers of <linux/kvm.h>.
CREATE_VM, CREATE_VCPU, RUN, SET_MEMORY = 0xAE01, 0xAE41, 0xAE80, 0x4020_AE46

#: Guests in a process that is denied something; ``deny`` takes the rules.
_PRELUDE = """
import os
from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import VmSpec
from vdesktop_core.testing.conformance.guest import Guest
from vdesktop_core.testing.conformance.program import count
from vdesktop_kvm.hypervisor import KvmHypervisor, host_arch
backend, arch = KvmHypervisor(), host_arch()
def left():
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    names = [os.readlink(link).rpartition("/")[2] for link in links if os.path.lexists(link)]
    return [name for name in names if "kvm" in name]
"""


def denied(rules: list[tuple[str, int | None, int]], code: str) -> list[str]:
    """Run Python where system calls fail; return the lines it prints."""
    program = Path(__file__).with_name("denied.py")
    done = subprocess.run(
        [sys.executable, program, json.dumps(rules), _PRELUDE + code],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


_CREATE = """
deny(RULES)
try:
    backend.create(VmSpec(arch, 2))
except BackendError as error:
    print(error)
found = backend.probe()
print(found.available, found.reason)
print(left())
"""


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (("ioctl", CREATE_VM, errno.EBUSY), "another hypervisor holds the processor's virtualisation"),
        (("ioctl", CREATE_VM, errno.ENOMEM), "give the machine less memory or fewer CPUs"),
        (("ioctl", CREATE_VCPU, errno.EMFILE), "raise the limit of open files"),
    ],
    ids=["busy", "no-memory", "no-descriptors"],
)
def test_creation_that_the_kernel_refuses_is_one_line_with_advice(
    rule: tuple[str, int, int], said: str
) -> None:
    error, probe, left = denied([rule], _CREATE)
    assert error.startswith(("kvm cannot create a v", "kvm cannot create a V"))
    assert said in error
    assert probe.startswith("False ")
    assert said in probe
    assert left == "[]"


def test_permission_that_is_missing_names_the_group() -> None:
    code = "deny(RULES)\nprint(backend.probe().reason)"
    [reason] = denied([("openat", os.O_RDWR | os.O_CLOEXEC, errno.EACCES)], _by_flags(code))
    assert "add yourself to the group kvm" in reason


def _by_flags(code: str) -> str:
    """Match openat's third argument, its flags: the device is opened for reading and writing."""
    return code.replace("deny(RULES)", "import denied\ndenied._SECOND = 32\ndenied.deny(RULES)")


def test_memory_that_cannot_be_mapped_is_one_line() -> None:
    code = """
deny(RULES)
try:
    Guest(backend, arch)
except BackendError as error:
    print(error)
print(left())
"""
    lines = denied([("ioctl", SET_MEMORY, errno.ENOMEM)], code)
    assert re.fullmatch(r"kvm cannot map \S+ at 0x[0-9a-f]+: Cannot allocate memory", lines[0])
    assert lines[1] == "[]"


def test_threads_that_cannot_be_started_leave_none_behind() -> None:
    lines = denied(
        [("clone3", None, errno.EAGAIN), ("clone", None, errno.EAGAIN)],
        """
with Guest(backend, arch, 2) as guest:
    deny(RULES)
    try:
        guest.start([])
    except BackendError as error:
        print(error)
    print(len(os.listdir("/proc/self/task")))
""",
    )
    assert lines == ["kvm cannot start a thread for each vCPU: Resource temporarily unavailable", "1"]


def test_vcpu_that_dies_ends_the_machine_with_its_registers() -> None:
    lines = denied(
        [("ioctl", RUN, errno.EFAULT)],
        """
with Guest(backend, arch, 2) as guest:
    deny(RULES)
    guest.start([count(guest.data)])
    event = guest.ended()
    print(event.reason)
    print(event.detail)
""",
    )
    assert lines[0] == "error"
    assert re.match(r"KVM cannot run the guest \(Bad address\): vCPU [01] (rip|pc)=0x", lines[1])
