# SPDX-License-Identifier: MIT
"""A domain's life where a host, or a Xen, has no more memory: nothing is left behind, whatever is denied."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "backends/xen/vdesktop_xen/native"
WRAPPED = ("stat", "access", "calloc", "malloc", "munmap", "timerfd_create", "pthread_create")
FLAGS = (
    *("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    *(f"-Wl,--wrap={name}" for name in WRAPPED),
)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the extension is built for x86_64 hosts")
def test_whatever_is_denied_nothing_is_left_behind(tmp_path: Path) -> None:
    program = tmp_path / "xen_denied"
    sources = [path for path in NATIVE.glob("*.c") if path.name != "library.c"]
    include = [f"-I{NATIVE}", f"-I{ROOT / 'vdesktop_core/native/include'}"]
    own = Path(__file__).with_name("xen_denied.c")
    subprocess.run(["gcc", *FLAGS, *include, own, *sources, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *denied, last = done.stdout.splitlines()
    assert last == "all went well"
    assert any(
        line.endswith("this host (dom0) is out of memory: end something in it, or give it more")
        for line in denied
    )
    create = next(line for line in denied if line.startswith("xc_domain_create: "))
    assert "Xen or dom0 is out of memory, see 'xl info'" in create
    assert len(denied) > 100, "most of what can be denied was not"
