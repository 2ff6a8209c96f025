# SPDX-License-Identifier: MIT
"""The kvm backend on a real KVM: its own tests and those of booted guests, run in a rig."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig import KVM_AARCH64, KVM_X86_64, require, run

if TYPE_CHECKING:
    from pathlib import Path

    from rig import Rig

#: What tests/boot shows on the software CPU, it shows here with the same results; a boot takes half a minute.
TESTS = (
    "tests/kvm",
    "tests/unit/test_kvm_denied.py",
    "tests/boot/test_devices.py",
    "tests/boot/test_lifecycle.py::test_reboot_starts_the_guest_anew_with_its_disk",
    "tests/boot/test_smp.py::test_smp_all_cpus_are_online_and_take_interrupts",
    "tests/boot/test_smp.py::test_smp_cpu_goes_offline_and_comes_back",
    "tests/boot/test_smp.py::test_smp_processes_on_all_cpus_talk_through_a_pipe",
)


@pytest.mark.rig
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rig", [KVM_X86_64, KVM_AARCH64], ids=lambda rig: rig.name)
def test_kvm_backend_passes_its_tests_on_emulated_hardware(rig: Rig, tmp_path: Path) -> None:
    image = require(rig)
    options = ["-q", "-p", "no:cacheprovider", "--color=no", "--durations=5", "--timeout=900"]
    command = [rig.python, "-m", "pytest", *options, "--require", "kvm,boot", "--backend", "kvm"]
    # On a rig's only CPU, the guest's console driver spins for the host's thread, every 16 bytes.
    command += ["-k", "not of_a_megabyte"]
    said = run(rig, image, [*command, *TESTS], tmp_path, timeout=1500)
    assert " passed" in said
    print(said)  # noqa: T201 - shown with -s, and where the test fails
