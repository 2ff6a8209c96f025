# SPDX-License-Identifier: MIT
"""The desktop's disk: stages that go on where they were, and commands in a namespace of their own.

tests/desktop boots what the real tools make.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from vdesktop_core.errors import GuestBuildError
from vdesktop_core.guestbuild import build as building
from vdesktop_core.guestbuild import desktop, namespace, recipe
from vdesktop_core.guestbuild.apt import Package
from vdesktop_core.guestbuild.desktop import DesktopDisk
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ROOT = recipe.FLAVOURS["desktop"].root
assert ROOT is not None
OWN = Arch(os.uname().machine)
FOREIGN = Arch.AARCH64 if OWN is not Arch.AARCH64 else Arch.X86_64


class Quiet:
    """A progress nobody looks at, but for its range."""

    def step(self, title: str) -> None:
        pass

    def advance(self, fraction: float) -> None:
        assert 0 <= fraction <= 1

    def note(self, line: str) -> None:
        pass


class FakeApt:
    """Two packages, in this version or another."""

    suite, architecture, mirror = "trixie", "arm64", "http://mirror.example/debian"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = "1"

    def fetch_closure(self, packages: tuple[str, ...], progress: object) -> list[Package]:
        assert "spice-vdagent" in packages
        return [
            Package(name, self.version, self.folder / f"{name}_{self.version}_all.deb", name + self.version)
            for name in ("one", "two")
        ]


class Tools:
    """Stands in for what runs in the namespace."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.says: list[str] = ["I: installing", "Unpacking one (1)", "Setting up one (1)"]
        self.status = 0

    def run(self, arch: Arch, command: Sequence[str | Path], heard: Callable[[str], None]) -> int:
        self.commands.append([str(word) for word in command])
        for line in self.says:
            heard(line)
        for word in command:
            if str(word).endswith((".part.tar", "disk.img")):
                with open(word, "wb") as file:  # noqa: PTH123 - a name or a path
                    file.write(b"content")
        return self.status


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Tools:
    found = Tools()
    monkeypatch.setattr(namespace, "run", found.run)
    monkeypatch.setattr(desktop.shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    return found


def disk_of(tmp_path: Path, apt: FakeApt) -> DesktopDisk:
    return DesktopDisk(Arch.AARCH64, tmp_path, apt, tmp_path / "keyring")  # type: ignore[arg-type]


def test_root_is_installed_once_for_the_same_packages(tools: Tools, tmp_path: Path) -> None:
    apt = FakeApt(tmp_path)
    first = disk_of(tmp_path, apt).root(ROOT, Quiet())
    assert disk_of(tmp_path, apt).root(ROOT, Quiet()) == first
    assert len(tools.commands) == 1
    apt.version = "2"
    second = disk_of(tmp_path, apt).root(ROOT, Quiet())
    assert second != first
    assert not first.exists()
    assert second.read_bytes() == b"content"


def test_root_that_fails_leaves_nothing_and_says_where_to_read_more(tools: Tools, tmp_path: Path) -> None:
    tools.status = 2
    tools.says.append("E: the disk is full")
    with pytest.raises(GuestBuildError, match="the disk is full") as failed:
        disk_of(tmp_path, FakeApt(tmp_path)).root(ROOT, Quiet())
    assert "\n" not in str(failed.value)
    log = tmp_path / "install-aarch64.log"
    assert str(log) in str(failed.value)
    assert "Setting up one" in log.read_text()
    assert list((tmp_path / "roots").iterdir()) == []


def test_root_unpacks_with_the_hosts_dpkg_and_configures_in_the_root(tools: Tools, tmp_path: Path) -> None:
    disk_of(tmp_path, FakeApt(tmp_path)).root(ROOT, Quiet())
    (command,) = tools.commands
    assert command[0] == "mmdebstrap"
    assert "--architectures=arm64" in command
    hooks = [word for word in command if word.startswith("--essential-hook=")]
    assert "dpkg --root=" in hooks[0]
    assert hooks[1].endswith('chroot "$1" dpkg --configure --pending')
    assert (tmp_path / "install-aarch64.list").read_text().count("_1_all.deb\n") == 2


def test_desktop_without_mmdebstrap_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desktop.shutil, "which", lambda *_, **__: None)
    with pytest.raises(GuestBuildError, match="install the package mmdebstrap"):
        disk_of(tmp_path, FakeApt(tmp_path))


def test_disk_that_a_guest_wrote_to_is_not_overwritten(tmp_path: Path) -> None:
    building._refuse_used_disk(tmp_path)
    for name in (building.DISK, building.MANIFEST):
        (tmp_path / name).touch()
    os.utime(tmp_path / building.DISK, (100, 100))
    building._refuse_used_disk(tmp_path)
    os.utime(tmp_path / building.DISK, (4e9, 4e9))
    with pytest.raises(GuestBuildError, match="move it away"):
        building._refuse_used_disk(tmp_path)


def test_foreign_programs_need_an_interpreter_and_get_a_rule_of_their_elf_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert namespace._rule(OWN) == ""
    monkeypatch.setattr(namespace, "_registered", lambda arch: False)
    monkeypatch.setattr(namespace.shutil, "which", lambda name: f"/usr/bin/{name}")
    rule = namespace._rule(FOREIGN)
    _, name, kind, offset, magic, mask, interpreter, flags = rule.split(":")
    assert (name, kind, offset, flags) == (f"vdesktop-{FOREIGN}", "M", "", "OCF")
    assert interpreter == f"/usr/bin/qemu-{FOREIGN}-static"
    assert magic.startswith(r"\x7f\x45\x4c\x46\x02\x01\x01")
    assert len(magic) == len(mask) == 4 * 20
    monkeypatch.setattr(namespace.shutil, "which", lambda name: None)
    with pytest.raises(GuestBuildError, match="install the package qemu-user-static"):
        namespace._rule(FOREIGN)


def test_hosts_own_registration_is_used_where_it_lasts_into_a_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace, "_BINFMT", tmp_path)
    entry = tmp_path / "qemu-aarch64"
    for state, flags, found in (
        ("enabled", "OCF", True),
        ("disabled", "OCF", False),
        ("enabled", "OC", False),
    ):
        entry.write_text(f"{state}\ninterpreter /usr/bin/qemu-aarch64-static\nflags: {flags}\noffset 0\n")
        assert namespace._registered(Arch.AARCH64) is found
    assert not namespace._registered(Arch.RISCV64)


@pytest.mark.parametrize(
    ("lines", "found"),
    [("me:100000:65536\n", (100000, 65536)), ("you:1:2\n", (0, 0)), ("me:x:y\n#\n\n", (0, 0)), ("", (0, 0))],
)
def test_subordinate_ids_are_those_of_this_user(
    lines: str, found: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace.getpass, "getuser", lambda: "me")
    (tmp_path / "subuid").write_text(lines)
    assert namespace._subordinate(tmp_path / "subuid") == found
    assert namespace._subordinate(tmp_path / "none") == (0, 0)


def test_build_without_root_and_without_subordinate_ids_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(namespace.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(namespace, "_subordinate", lambda path: (0, 0))
    with pytest.raises(GuestBuildError, match="run it as root, or add them with usermod"):
        namespace._id_maps()


@pytest.mark.host("a user namespace with all ids")
def test_command_in_a_namespace_is_root_and_leaves_no_mount_and_no_process(tmp_path: Path) -> None:
    lines: list[str] = []
    before = subprocess.run(["cat", "/proc/mounts"], capture_output=True, check=True).stdout
    script = f"id -u; echo on stderr >&2; mount -t tmpfs none {tmp_path} && sleep 1000 & exit 3"
    try:
        status = namespace.run(OWN, ["sh", "-c", script], lines.append)
    except GuestBuildError as error:
        pytest.skip(str(error))
    assert status == 3
    assert sorted(lines) == ["0", "on stderr"]
    assert subprocess.run(["cat", "/proc/mounts"], capture_output=True, check=True).stdout == before
