# SPDX-License-Identifier: MIT
"""The tests of this folder once more, on a C core built with ASan and UBSan."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Files that test other programs more than the C core in this process.
ELSEWHERE = ("test_libvdesktop.py", "test_blk_images.py", "test_fuzz_targets.py", "test_sanitizers.py")


def runtime(name: str) -> str:
    found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


@pytest.mark.sanitizer
@pytest.mark.timeout(1800)
def test_native_tests_under_sanitizers_find_nothing(tmp_path: Path) -> None:
    build = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", tmp_path, "--build-temp"]
    env = os.environ | {"VDESKTOP_SANITIZE": "address,undefined"}
    built = subprocess.run([*build, tmp_path / "temp"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for source in (ROOT / "vdesktop_core", ROOT / "plugins/rfb/vdesktop_rfb"):
        for path in source.iterdir():
            if path.suffix not in (".so", ".c") and path.name != "__pycache__":
                (tmp_path / source.name / path.name).symlink_to(path)
    env |= {
        "PYTHONPATH": str(tmp_path),
        "LD_PRELOAD": f"{runtime('libasan.so')}:{runtime('libubsan.so')}",
        # CPython frees little at exit; a leak of ours is found by the fuzz targets.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }
    where = "import vdesktop_core._native as n; print(n.__file__)"
    used = subprocess.run(
        [sys.executable, "-c", where], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert used.stdout.startswith(str(tmp_path)), used.stderr
    native = ROOT / "tests" / "native"
    tests = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", native]
    tests += [f"--ignore={native / name}" for name in ELSEWHERE]
    ran = subprocess.run(tests, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
