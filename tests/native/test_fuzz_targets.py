# SPDX-License-Identifier: MIT
"""Every fuzz target compiles, and survives its seeds. ``make fuzz`` runs them for longer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "fuzz"
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in FOLDER.glob("fuzz_*"))


@pytest.mark.sanitizer
@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", TARGETS)
def test_fuzz_target_on_its_seeds_finds_nothing(target: str) -> None:
    if not shutil.which("clang"):
        pytest.skip("clang is not installed")
    if (FOLDER / f"fuzz_{target}.py").exists():
        pytest.importorskip("atheris")
    ran = subprocess.run([ROOT / "scripts" / "fuzz", "0", target], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
