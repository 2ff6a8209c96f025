# SPDX-License-Identifier: MIT
"""Xen's libraries where one is absent, or another version's: one line names it. These here are gcc's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "backends/xen/vdesktop_xen/native"
#: File names, the group of functions in library.h, and Debian's package.
LIBRARIES = {
    "libxenctrl.so.4.17": ("CTRL", "libxenmisc4.17"),
    "libxenguest.so.4.17": ("GUEST", "libxenmisc4.17"),
    "libxendevicemodel.so.1": ("DEVICEMODEL", "libxendevicemodel1"),
    "libxenforeignmemory.so.1": ("FOREIGNMEMORY", "libxenforeignmemory1"),
    "libxenevtchn.so.1": ("EVTCHN", "libxenevtchn1"),
}
PROGRAM = """
#include "library.h"
#include <stdio.h>
int main(void) {
    struct vx_lib lib;
    char error[512] = "";
    bool opened = vx_lib_open(&lib, error, sizeof error);
    puts(opened ? "opened" : error);
    vx_lib_close(&lib);
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "main.c").write_text(PROGRAM)
    flags = ["-std=gnu11", f"-I{NATIVE}", f"-I{ROOT / 'vdesktop_core/native/include'}"]
    command = ["gcc", *flags, folder / "main.c", NATIVE / "library.c", "-ldl", "-o", folder / "main"]
    subprocess.run(command, check=True)
    return folder / "main"


def calls(group: str) -> list[str]:
    """The functions that are used of a library."""
    header = (NATIVE / "library.h").read_text()
    [body] = re.findall(rf"#define VX_CALLS_{group}\(X\).*?\n\n", header, re.DOTALL)
    return re.findall(r"X\([\w *]+, (x\w+),", body)


def compiled(folder: Path, name: str, functions: list[str]) -> None:
    source = "".join(f"void {function}(void) {{}}\n" for function in functions)
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", folder / name]
    subprocess.run(command, input=source, text=True, check=True)


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("complete")
    for name, (group, _package) in LIBRARIES.items():
        compiled(folder, name, calls(group))
    return folder


def opened(program: Path, *folders: Path) -> str:
    path = ":".join(map(str, folders))
    done = subprocess.run(
        [program], env={"LD_LIBRARY_PATH": path}, capture_output=True, text=True, check=True
    )
    [line] = done.stdout.splitlines()
    return line


def test_libraries_that_fit_are_opened(program: Path, complete: Path) -> None:
    assert opened(program, complete) == "opened"


def without(complete: Path, folder: Path, name: str) -> Path:
    """All libraries but one."""
    for path in complete.iterdir():
        if path.name != name:
            (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.parametrize("name", LIBRARIES)
def test_library_that_is_missing_is_named_with_its_package(
    program: Path, complete: Path, tmp_path: Path, name: str
) -> None:
    assert opened(program, without(complete, tmp_path, name)) == (
        f"{name}: cannot open shared object file: No such file or directory: this backend needs Xen 4.17, "
        f"install its libraries (Debian: {LIBRARIES[name][1]})"
    )


@pytest.mark.parametrize("name", [name for name in LIBRARIES if name.endswith("4.17")])
def test_library_of_another_xen_beside_is_not_taken(
    program: Path, complete: Path, tmp_path: Path, name: str
) -> None:
    folder = without(complete, tmp_path, name)
    (folder / name.replace("4.17", "4.18")).symlink_to(complete / name)
    assert opened(program, folder).startswith(f"{name}: cannot open shared object file")


@pytest.mark.parametrize("name", LIBRARIES)
def test_library_that_lacks_a_function_is_named_with_it(
    program: Path, complete: Path, tmp_path: Path, name: str
) -> None:
    folder = without(complete, tmp_path, name)
    functions = calls(LIBRARIES[name][0])
    for lost in (functions[0], functions[-1]):
        compiled(folder, name, [function for function in functions if function != lost])
        assert opened(program, folder) == f"{name} has no {lost}: it is not that of Xen 4.17"


@pytest.mark.parametrize("name", LIBRARIES)
def test_library_that_is_none_is_named(program: Path, complete: Path, tmp_path: Path, name: str) -> None:
    folder = without(complete, tmp_path, name)
    (folder / name).write_text("not a library\n")
    line = opened(program, folder)
    assert line.startswith(str(folder / name))
    assert line.endswith(f"this backend needs Xen 4.17, install its libraries (Debian: {LIBRARIES[name][1]})")
