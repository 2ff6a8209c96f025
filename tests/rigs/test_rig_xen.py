# SPDX-License-Identifier: MIT
"""The xen backend on a real Xen: its own tests and those of booted guests, run in a rig."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig import require, run
from xen_rig import XEN_X86_64, fetch_xen

if TYPE_CHECKING:
    from pathlib import Path

#: ``scripts/test rig-xen-quick`` and ``make rig-xen``. What tests/boot shows on the
#: software CPU, it shows here with the same results.
PARTS = {
    "quick": (
        "tests/xen/test_conformance.py",
        "tests/xen/test_guest.py::test_guest_with_all_devices_is_seen_by_tools_and_shut_down_by_them",
    ),
    "whole": (
        "tests/xen",
        "tests/boot/test_devices.py",
        "tests/boot/test_lifecycle.py::test_reboot_starts_the_guest_anew_with_its_disk",
        "tests/boot/test_smp.py::test_smp_all_cpus_are_online_and_take_interrupts",
        "tests/boot/test_smp.py::test_smp_cpu_goes_offline_and_comes_back",
        "tests/boot/test_smp.py::test_smp_processes_on_all_cpus_talk_through_a_pipe",
    ),
}


@pytest.mark.rig
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("part", PARTS)
def test_xen_backend_passes_its_tests_on_emulated_hardware(part: str, tmp_path: Path) -> None:
    image = require(XEN_X86_64)
    fetch_xen()
    options = ["-q", "-p", "no:cacheprovider", "--color=no", "--durations=5", "--timeout=900"]
    layers = "xen,boot" if part == "whole" else "xen"
    command = [XEN_X86_64.python, "-m", "pytest", *options, "--require", layers, "--backend", "xen"]
    # Two emulated CPUs are dom0's and the guest's: a megabyte through a terminal takes minutes.
    command += ["-k", "not of_a_megabyte"]
    said = run(XEN_X86_64, image, [*command, *PARTS[part]], tmp_path, timeout=2000)
    assert " passed" in said
    print(said)  # noqa: T201 - shown with -s, and where the test fails
