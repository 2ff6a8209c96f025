# SPDX-License-Identifier: MIT
"""The kvm backend on a real KVM: its own tests and those of booted guests, run in rigs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig import KVM_AARCH64, KVM_X86_64, Rig, require, run

if TYPE_CHECKING:
    from pathlib import Path

RIGS = (KVM_X86_64, KVM_AARCH64)
#: What tests/boot shows on the software CPU, it shows here with the same results.
TESTS = (
    "tests/kvm",
    "tests/boot/test_devices.py",
    "tests/boot/test_lifecycle.py::test_reboot_starts_the_guest_anew_with_its_disk",
    "tests/boot/test_smp.py::test_smp_all_cpus_are_online_and_take_interrupts",
    "tests/boot/test_smp.py::test_smp_cpu_goes_offline_and_comes_back",
    "tests/boot/test_smp.py::test_smp_processes_on_all_cpus_talk_through_a_pipe",
    *(
        f"tests/boot/test_power_guest.py::test_power_{what}"
        for what in (
            "enumeration_in_the_guest_is_the_machine",
            "disk_is_plugged_written_and_unplugged",
            "card_is_plugged_used_and_unplugged",
            "cpus_go_down_and_up",
            "host_asks_for_an_orderly_shutdown",
            "guest_resets_and_powers_off_by_the_device",
        )
    ),
)
#: What a host denies does not depend on its architecture, and each of these tests starts a Python of its own.
ONCE = ("tests/unit/test_kvm_denied.py",)
OPTIONS = (
    # Those plugins that are needed: a rig takes its time to import them.
    *("--disable-plugin-autoload", "-p", "asyncio", "-p", "timeout", "-p", "rerunfailures"),
    *("-q", "-p", "no:cacheprovider", "--color=no", "--durations=8", "--timeout=600"),
    # Emulated processors below a hypervisor below another: what fails once in a rig is done again there, and
    # the summary names it. A second failure is one.
    *("--reruns", "1", "-rfEsR"),
    *("--require", "kvm,boot", "--backend", "kvm", "--cpus", "2"),
    # On a rig's only CPU, the guest's console driver spins for the host's thread, every 16 bytes.
    *("-k", "not of_a_megabyte"),
)


@pytest.mark.rig
@pytest.mark.timeout(2400)
# Named by the guests' architectures: they may run side by side.
@pytest.mark.parametrize("rig", RIGS, ids=["x86_64", "aarch64"])
def test_kvm_backend_passes_its_tests_on_emulated_hardware(rig: Rig, tmp_path: Path) -> None:
    image = require(rig)
    tests = TESTS if rig.foreign else (*TESTS, *ONCE)
    said = run(rig, image, [rig.python, "-m", "pytest", *OPTIONS, *tests], tmp_path, timeout=1800)
    assert " passed" in said
    print(said)  # noqa: T201 - shown with -s, and where the test fails
