# SPDX-License-Identifier: MIT
"""Commands with a root of their own, for any architecture, that leave nothing behind on the host.

A user namespace makes this user root of the files below a folder; in it, an instance of binfmt_misc of its
own (Linux 6.7) lets the kernel run a foreign architecture's programs. Both end with the last process in
them, so nothing is registered or mounted that somebody would have to undo.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from vdesktop_core.errors import GuestBuildError
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: ``e_machine`` of ELF files (System V ABI): what binfmt_misc tells architectures apart by.
_ELF_MACHINE = {Arch.X86_64: 62, Arch.AARCH64: 183, Arch.RISCV64: 243}
#: \x7fELF, 64 bits, little endian, version 1; EI_OSABI and its version may be anything that is Linux's.
_ELF_HEADER = "7f 45 4c 46 02 01 01" + " 00" * 9
_ELF_MASK = "ff ff ff ff ff ff ff 00" + " ff" * 8
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
#: Ids a Debian system uses.
_IDS = 65536
_READY = "ready"
_UNSHARE = ("unshare", "--user", "--mount", "--pid", "--fork", "--kill-child", "--")
# Ids are mapped from outside, and a program gets its rights when it is started after that.
_ENTER = f'echo {_READY}; read -r _ || exit 1; exec sh -c "$1" "$@"'
_PREPARE = """
mount --make-rprivate / || exit 1
if [ -n "$1" ]; then
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && printf %s "$1" >/proc/sys/fs/binfmt_misc/register ||
        { echo "E: this kernel shares no binfmt_misc: use Linux 6.7, or register qemu-user on this host" >&2
          exit 1; }
fi
shift
exec "$@"
"""


def run(arch: Arch, command: Sequence[str | Path], heard: Callable[[str], None]) -> int:
    """Run a command as root of a namespace where programs of ``arch`` run.

    Args:
        arch: whose programs it starts, beside the host's own.
        command: it and its arguments; nothing of it is left running.
        heard: gets every line it says, on either stream.

    Returns:
        Its exit status.

    Raises:
        GuestBuildError: this user may not have such a namespace, or the host cannot run the architecture.
    """
    rule = _rule(arch)
    for tool in ("unshare", "mount"):
        if shutil.which(tool) is None:
            raise GuestBuildError(f"{tool} is missing: install the package util-linux or mount")
    maps = _id_maps()
    process = subprocess.Popen(
        [*_UNSHARE, "sh", "-c", _ENTER, "sh", _PREPARE, rule, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert process.stdin is not None  # noqa: S101 - for the type checker: they are pipes
    assert process.stdout is not None  # noqa: S101
    try:
        first = process.stdout.readline().strip()
        if first != _READY:
            raise GuestBuildError(f"no user namespace for the build ({first}): run it as root, or allow them")
        _map_ids(process.pid, maps)
        process.stdin.write("go\n")
        process.stdin.close()
        for line in process.stdout:
            heard(line.rstrip("\n"))
        return process.wait()
    finally:
        process.kill()  # --kill-child: all of the namespace with it
        process.wait()
        process.stdout.close()


def _rule(arch: Arch) -> str:
    """Return what makes this kernel run an architecture's programs; empty: it does already."""
    if os.uname().machine == arch.value or _registered(arch):
        return ""
    names = (f"qemu-{arch.value}-static", f"qemu-{arch.value}")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise GuestBuildError(f"this host runs no {arch} programs: install the package qemu-user-static")
    machine = f"{_ELF_MACHINE[arch]:02x} 00"

    def escaped(text: str) -> str:
        return "".join(f"\\x{byte}" for byte in text.split())

    # e_type 2 or 3, executable or shared, is why the mask of the byte is fe.
    magic, mask = escaped(f"{_ELF_HEADER} 02 00 {machine}"), escaped(f"{_ELF_MASK} fe ff ff ff")
    return f":vdesktop-{arch}:M::{magic}:{mask}:{found}:OCF"


def _registered(arch: Arch) -> bool:
    for path in _BINFMT.glob("*"):
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:  # "register" is for writing
            continue
        # "F": the interpreter was opened when it was registered, so it need not be in the guest's root.
        if f"qemu-{arch.value}" in text and text.startswith("enabled") and "F" in _flags(text):
            return True
    return False


def _flags(text: str) -> str:
    return next((line.partition(":")[2] for line in text.splitlines() if line.startswith("flags:")), "")


def _id_maps() -> dict[str, list[tuple[int, int, int]]]:
    """Return what each of the namespace's ids is outside: (inside, outside, count) for users and groups."""
    if os.geteuid() == 0:
        return {kind: [(0, 0, 0xFFFFFFFF)] for kind in ("uid", "gid")}
    maps = {}
    for kind, own in (("uid", os.getuid()), ("gid", os.getgid())):
        first, count = _subordinate(Path(f"/etc/sub{kind}"))
        if count < _IDS - 1 or shutil.which(f"new{kind}map") is None:
            raise GuestBuildError(
                f"a build without root needs {_IDS - 1} subordinate ids in /etc/sub{kind} and the package "
                "uidmap: run it as root, or add them with usermod"
            )
        maps[kind] = [(0, own, 1), (1, first, _IDS - 1)]
    return maps


def _subordinate(path: Path) -> tuple[int, int]:
    who = {getpass.getuser(), str(os.getuid())}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, numbers = line.partition(":")
        first, _, count = numbers.partition(":")
        if name in who and first.isdecimal() and count.isdecimal():
            return int(first), int(count)
    return 0, 0


def _map_ids(process: int, maps: dict[str, list[tuple[int, int, int]]]) -> None:
    for kind, rows in maps.items():
        words = [str(number) for row in rows for number in row]
        if os.geteuid() == 0:
            Path(f"/proc/{process}/{kind}_map").write_text(" ".join(words) + "\n", encoding="ascii")
            continue
        done = subprocess.run(
            [f"new{kind}map", str(process), *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise GuestBuildError(f"new{kind}map refuses: {done.stderr.strip()}: run the build as root")
