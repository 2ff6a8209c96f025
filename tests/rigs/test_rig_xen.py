# SPDX-License-Identifier: MIT
"""The xen backend on a real Xen: its own tests and those of booted guests, run in a rig."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig import require, run
from xen_rig import XEN_X86_64, fetch_xen

if TYPE_CHECKING:
    from pathlib import Path

#: What tests/boot shows on the software CPU, it shows here with the same results.
TESTS = (
    "tests/xen",
    "tests/boot/test_devices.py",
    "tests/boot/test_lifecycle.py::test_reboot_starts_the_guest_anew_with_its_disk",
    "tests/boot/test_smp.py",
)


@pytest.mark.rig
@pytest.mark.timeout(1800)
def test_xen_backend_passes_its_tests_on_emulated_hardware(tmp_path: Path) -> None:
    image = require(XEN_X86_64)
    fetch_xen()
    options = ["-q", "-p", "no:cacheprovider", "--color=no", "--durations=5", "--timeout=900"]
    command = [XEN_X86_64.python, "-m", "pytest", *options, "--require", "xen,boot", "--backend", "xen"]
    said = run(XEN_X86_64, image, [*command, *TESTS], tmp_path, timeout=1500)
    assert " passed" in said
    print(said)  # noqa: T201 - shown with -s, and where the test fails
