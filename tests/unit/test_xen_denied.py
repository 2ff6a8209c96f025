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


pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the extension is built for x86_64 hosts"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("xen") / "xen_denied"
    sources = [path for path in NATIVE.glob("*.c") if path.name != "library.c"]
    include = [f"-I{NATIVE}", f"-I{ROOT / 'vdesktop_core/native/include'}"]
    own = Path(__file__).with_name("xen_denied.c")
    subprocess.run(["gcc", *FLAGS, *include, own, *sources, "-o", program], check=True)
    return program


def run(*command: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_whatever_is_denied_nothing_is_left_behind(program: Path) -> None:
    done = run(program, "life")
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


def test_end_of_a_killed_process_server_answers_everybody_or_leaves_it_for_the_next(program: Path) -> None:
    done = run(program, "orphan")
    assert done.returncode == 0, done.stdout + done.stderr
    *denied, last = done.stdout.splitlines()
    assert last == "all went well"
    for call in (
        "xendevicemodel_set_ioreq_server_state",
        "xenforeignmemory_map_resource",
        "xenevtchn_bind_interdomain",
    ):
        assert f"{call}: Cannot allocate memory" in denied


@pytest.mark.parametrize(
    ("version", "said"), [(4 << 16 | 16, "4.16"), (4 << 16 | 18, "4.18"), (5 << 16, "5.0")]
)
def test_hypervisor_of_another_version_is_one_line(program: Path, version: int, said: str) -> None:
    done = run(program, "version", str(version))
    assert done.returncode == 1
    assert done.stdout == f"the hypervisor is Xen {said}: this backend is for 4.17\n"
    assert run(program, "version", str(4 << 16 | 17)).returncode == 0
