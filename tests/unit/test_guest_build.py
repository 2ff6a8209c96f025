# SPDX-License-Identifier: MIT
"""``vdesktop guest build``: mirrors, cached downloads, what is written, and one line where it fails.

apt-get, apt-cache and dpkg-deb are stand-ins here; tests/boot boots what the real ones make.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from vdesktop_core.cli import guest as command
from vdesktop_core.errors import GuestBuildError
from vdesktop_core.guestbuild import build as building
from vdesktop_core.guestbuild import mirror as mirrors
from vdesktop_core.guestbuild import recipe
from vdesktop_core.guestbuild.build import GuestSpec, build
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from pathlib import Path

MIRROR = "http://mirror.example/debian"


class Recorder:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []

    def step(self, title: str) -> None:
        self.steps.append(title)

    def advance(self, fraction: float) -> None:
        assert 0 <= fraction <= 1

    def note(self, line: str) -> None:
        self.notes.append(line)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that stand in for apt's; files in it steer them, ``calls`` tells of them."""
    folder = tmp_path / "tools"
    folder.mkdir()
    package = b"package"
    digest = hashlib.sha256(package).hexdigest()
    kernel, box = "linux-image-6.12-test", "busybox-static"
    scripts = {
        "apt-get": f"""
            echo "$*" | sed 's/.*\\(update\\|download.*\\)/\\1/' >>{folder}/calls
            case "$*" in
            *update*) [ ! -f {folder}/fail-update ] || {{ cat {folder}/fail-update >&2; exit 100; }}
                for d in {tmp_path}/cache/apt/*/lists; do touch $d/x_Packages; done ;;
            *--print-uris*) for p in {kernel} {box}; do
                echo "'{MIRROR}/$p.deb' ${{p}}_1%3a2_amd64.deb {len(package)} SHA256:{digest}"; done ;;
            *) for p in {kernel} {box}; do case "$*" in *$p*)
                [ -f {folder}/damage ] && printf dAmaged >${{p}}_1%3a2_amd64.deb ||
                printf package >${{p}}_1%3a2_amd64.deb ;; esac; done ;;
            esac""",
        "apt-cache": f"echo 'Package: x'; echo 'Depends: {kernel} (= 1), other | more'",
        "dpkg-deb": """
            mkdir -p $3/boot $3/usr/bin $3/usr/lib/modules/6.12-test
            : >$3/usr/lib/modules/6.12-test/modules.builtin
            for m in virtio_mmio virtio_blk virtio_net virtio_console virtio_rng virtio_input virtio_gpu \\
                evdev af_packet ext4 crc32c_generic button; do
                echo x/$m.ko >>$3/usr/lib/modules/6.12-test/modules.builtin; done
            printf kernel >$3/boot/vmlinuz-6.12-test; printf busybox >$3/usr/bin/busybox""",
    }
    for name, script in scripts.items():
        (folder / name).write_text("#!/bin/sh\n" + textwrap.dedent(script) + "\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    keyring = tmp_path / "keyring"
    keyring.touch()
    monkeypatch.setattr(building, "find_keyring", lambda: keyring)
    return folder


def make(tmp_path: Path, recorder: Recorder | None = None) -> Path:
    spec = GuestSpec(arch=Arch.X86_64, mirror=MIRROR, power_driver=False)
    build(spec, tmp_path / "guest", tmp_path / "cache", recorder or Recorder())
    return tmp_path / "guest"


def test_build_writes_four_files_and_a_manifest_of_them(tools: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    guest = make(tmp_path, recorder)
    assert sorted(p.name for p in guest.iterdir()) == ["initrd", "kernel", "machine.toml", "manifest.json"]
    manifest = json.loads((guest / "manifest.json").read_text())
    assert manifest["packages"]["busybox-static"]["version"] == "1:2"
    for name, entry in manifest["files"].items():
        data = (guest / name).read_bytes()
        assert entry == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert recorder.steps == ["package lists", "download", "unpack", "initramfs", "write"]
    assert not list((tmp_path / "cache").glob("unpack-*"))


def test_build_again_downloads_nothing(tools: Path, tmp_path: Path) -> None:
    make(tmp_path)
    (tools / "calls").unlink()
    make(tmp_path)
    calls = (tools / "calls").read_text().splitlines()
    assert [call for call in calls if call.startswith("download") and "--print-uris" not in call] == []


def test_build_with_a_truncated_cached_package_downloads_that_one_again(tools: Path, tmp_path: Path) -> None:
    make(tmp_path)
    cached = next((tmp_path / "cache/archives").glob("busybox*"))
    cached.write_bytes(b"pack")
    (tools / "calls").unlink()
    make(tmp_path)
    assert (tools / "calls").read_text().splitlines()[-1] == "download busybox-static"
    assert cached.read_bytes() == b"package"


def test_build_with_a_wrong_checksum_fails_and_writes_nothing(tools: Path, tmp_path: Path) -> None:
    (tools / "damage").touch()
    with pytest.raises(GuestBuildError, match="another checksum"):
        make(tmp_path)
    assert not (tmp_path / "guest").exists()


def test_build_without_the_mirror_uses_the_lists_of_the_last_time(tools: Path, tmp_path: Path) -> None:
    make(tmp_path)
    (tools / "fail-update").write_text("E: Failed to fetch\n")
    recorder = Recorder()
    make(tmp_path, recorder)
    assert any("cannot be reached" in note for note in recorder.notes)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("E: Failed to fetch: no route", "check the network or give --mirror"),
        ("W: GPG error: NO_PUBKEY 123\nE: The repository is not signed.", "not signed with a key"),
    ],
)
def test_build_with_unusable_lists_says_what_to_do(
    tools: Path, tmp_path: Path, output: str, message: str
) -> None:
    (tools / "fail-update").write_text(output)
    with pytest.raises(GuestBuildError, match=message) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "guest").exists()


def test_build_over_an_edited_machine_file_keeps_it(tools: Path, tmp_path: Path) -> None:
    guest = make(tmp_path)
    (guest / "machine.toml").write_text("# mine\n")
    recorder = Recorder()
    make(tmp_path, recorder)
    make(tmp_path, recorder)
    assert (guest / "machine.toml").read_text() == "# mine\n"
    assert len([note for note in recorder.notes if "was edited" in note]) == 2


def test_build_into_a_path_that_is_a_file_fails_in_one_line(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "guest").write_text("a file")
    with pytest.raises(GuestBuildError, match="guest"):
        make(tmp_path)
    assert (tmp_path / "guest").read_text() == "a file"


def test_build_of_an_architecture_that_a_suite_lacks_names_the_one_that_has_it(tmp_path: Path) -> None:
    spec = GuestSpec(arch=Arch.RISCV64, suite="bookworm", mirror=MIRROR)
    with pytest.raises(GuestBuildError, match="--suite trixie"):
        build(spec, tmp_path / "guest", tmp_path / "cache", Recorder())


def test_choose_mirror_prefers_the_hosts_own_release() -> None:
    targets = "\n".join(
        [
            "http://security.example/debian-security/|trixie-security|main",
            "http://packages.example/tool|stable|contrib",
            "cdrom://[Debian]/|trixie|main",
            "http://testing.example/debian/|testing|main",
            "http://near.example/debian/|trixie|main",
        ]
    )
    assert mirrors.choose_mirror(targets, "trixie") == "http://near.example/debian"
    assert mirrors.choose_mirror(targets, "forky") == "http://testing.example/debian"
    assert mirrors.choose_mirror("", "trixie") is None


def test_find_mirror_on_a_host_without_one_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "_os_release", lambda: {"ID": "other"})
    monkeypatch.setattr(mirrors, "_from_debootstrap", lambda suite: None)
    with pytest.raises(GuestBuildError, match="--mirror URL"):
        mirrors.find_mirror("trixie")


@pytest.mark.parametrize(
    ("script", "program", "expected"),
    [
        (
            "default_mirror http://a.example/debian/",
            'DEF_MIRROR="http://b.example/ubuntu"',
            "http://a.example/debian",
        ),
        ("mirror_style release", 'DEF_MIRROR="http://b.example/debian"', "http://b.example/debian"),
        ("mirror_style release", 'DEF_MIRROR="http://b.example/ubuntu"', None),
    ],
)
def test_debootstrap_default_mirror_counts_only_if_it_is_debians(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, program: str, expected: str | None
) -> None:
    (tmp_path / "trixie").write_text(script)
    (tmp_path / "debootstrap").write_text(program)
    monkeypatch.setattr(mirrors, "_DEBOOTSTRAP_SCRIPTS", tmp_path)
    monkeypatch.setattr(mirrors.shutil, "which", lambda *args, **kwargs: str(tmp_path / "debootstrap"))
    assert mirrors._from_debootstrap("trixie") == expected


def test_command_offers_what_the_recipes_have() -> None:
    options = {option.name: option.type for option in command.build.params}
    assert set(options["suite"].choices) == set(recipe.SUITES)
    assert set(options["flavour"].choices) == set(recipe.FLAVOURS)
    assert set(options["arch"].choices) == {arch.value for arch in recipe.PORTS}


def test_command_says_in_one_line_what_failed(tmp_path: Path) -> None:
    arguments = ["guest", "build", "--arch", "riscv64", "--suite", "bookworm", "-o", str(tmp_path / "guest")]
    ran = subprocess.run(
        [sys.executable, "-c", "from vdesktop_core.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == [
        "vdesktop: Debian bookworm has no riscv64 kernel for this machine: use --suite trixie"
    ]
    assert not (tmp_path / "guest").exists()
