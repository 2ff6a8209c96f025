# SPDX-License-Identifier: MIT
"""The kvm backend on a real KVM: its own tests, run in a rig."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from rig import KVM_X86_64, require, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.rig
@pytest.mark.timeout(900)
def test_kvm_backend_passes_its_tests_on_emulated_svm(tmp_path: Path) -> None:
    image = require(KVM_X86_64)
    options = ["-q", "-p", "no:cacheprovider", "--color=no", "--durations=3", "--require", "kvm"]
    command = [sys.executable, "-m", "pytest", *options, "tests/kvm"]
    said = run(KVM_X86_64, image, command, tmp_path, timeout=600)
    assert " passed" in said
    print(said)  # noqa: T201 - shown with -s, and where the test fails
