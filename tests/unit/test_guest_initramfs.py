# SPDX-License-Identifier: MIT
"""The initramfs: the archive's format, and the modules in it."""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import struct
from typing import TYPE_CHECKING

import pytest
import zstandard

from vdesktop_core.errors import GuestBuildError
from vdesktop_core.guestbuild.cpio import CpioWriter
from vdesktop_core.guestbuild.initramfs import build_initramfs
from vdesktop_core.guestbuild.modules import Module, ModuleTree, modules_alias, modules_dep

if TYPE_CHECKING:
    from pathlib import Path


def read_newc(archive: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """A reader of its own, from the kernel's description of the format: mode, data and device by name."""
    entries: dict[str, tuple[int, bytes, tuple[int, int]]] = {}
    at = 0
    while True:
        assert at % 4 == 0
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, major, minor, name_size = fields[1], fields[6], fields[9], fields[10], fields[11]
        name = archive[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        data_at = at + (110 + name_size + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            return entries
        assert name[:-1].decode() not in entries
        entries[name[:-1].decode()] = (mode, archive[data_at : data_at + size], (major, minor))
        at = data_at + (size + 3) // 4 * 4


def module_file(modinfo: dict[str, str]) -> bytes:
    """The least ELF that has a .modinfo section."""
    info = b"".join(f"{key}={value}\0".encode() for key, value in modinfo.items())
    names = b"\0.modinfo\0.shstrtab\0"
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 1, 62, 1, 0, 0, 64 + len(info + names), 0, 64, 0, 0, 64, 3, 2
    )

    def section(name: int, kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)

    table = section(0, 0, 0, 0) + section(1, 1, 64, len(info)) + section(10, 3, 64 + len(info), len(names))
    return header + info + names + table


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "6.12-test"
    drivers = folder / "kernel/drivers"
    drivers.mkdir(parents=True)
    (folder / "modules.builtin").write_text("kernel/lib/crc16.ko\n")
    card = module_file({"alias": "virtio:d00000001v*", "depends": "fail-over,crc16"})
    (drivers / "virtio-net.ko.xz").write_bytes(lzma.compress(card))
    (drivers / "fail-over.ko.zst").write_bytes(
        zstandard.compress(module_file({"softdep": "pre: fast slow post: late"}))
    )
    (drivers / "fast.ko").write_bytes(module_file({"depends": ""}))
    (drivers / "late.ko").write_bytes(module_file({"depends": ""}))
    (drivers / "lost.ko").write_bytes(module_file({"depends": "nowhere"}))
    return folder


def test_cpio_entries_are_read_back_with_their_folders() -> None:
    out = io.BytesIO()
    cpio = CpioWriter(out)
    cpio.file("a/b/c", b"12345", 0o755)
    cpio.folder("a/b")
    cpio.symlink("link", "a/b/c")
    cpio.character_device("dev/console", 5, 1)
    cpio.close()
    entries = read_newc(out.getvalue())
    assert list(entries) == ["a", "a/b", "a/b/c", "link", "dev", "dev/console"]
    assert entries["a/b"][0] == stat.S_IFDIR | 0o755
    assert entries["a/b/c"][:2] == (stat.S_IFREG | 0o755, b"12345")
    assert entries["link"][:2] == (stat.S_IFLNK | 0o777, b"a/b/c")
    assert entries["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))


def test_resolve_puts_dependencies_first_and_skips_what_is_built_in(tree: Path) -> None:
    modules = ModuleTree(tree).resolve(("virtio_net", "fail_over"))
    assert [module.name for module in modules] == ["fast", "fail_over", "virtio_net"]
    assert [module.path for module in modules] == [
        "kernel/drivers/fast.ko",
        "kernel/drivers/fail-over.ko",
        "kernel/drivers/virtio-net.ko",
    ]
    assert all(module.data.startswith(b"\x7fELF") for module in modules)
    assert modules_dep(modules).splitlines()[-1] == (
        "kernel/drivers/virtio-net.ko: kernel/drivers/fail-over.ko kernel/drivers/fast.ko"
    )
    assert modules_alias(modules) == "alias virtio:d00000001v* virtio_net\n"


def test_modules_dep_loaded_from_the_last_has_no_module_before_what_it_needs() -> None:
    """As drm's: the helper that is needed directly needs another that is needed directly, too."""
    depends = {"drm": (), "kms": ("drm",), "shmem": ("drm", "kms"), "gpu": ("kms", "drm", "shmem")}
    modules = [Module(name, f"{name}.ko", b"", needs, ()) for name, needs in depends.items()]
    assert modules_dep(modules).splitlines()[-1] == "gpu.ko: shmem.ko kms.ko drm.ko"


def test_present_are_the_modules_a_kernel_has(tree: Path) -> None:
    assert ModuleTree(tree).present(("no_such", "virtio-net", "virtio_net")) == ("virtio-net", "virtio_net")


@pytest.mark.parametrize(
    ("name", "message"), [("absent", "no module absent"), ("lost", "nowhere, which lost needs")]
)
def test_resolve_without_a_module_says_which(tree: Path, name: str, message: str) -> None:
    with pytest.raises(GuestBuildError, match=message):
        ModuleTree(tree).resolve((name,))


@pytest.mark.parametrize("damage", [b"", b"\xfd7zXZ\0broken", lzma.compress(b"no ELF")])
def test_resolve_of_a_damaged_file_names_it(tree: Path, damage: bytes) -> None:
    (tree / "kernel/drivers/virtio-net.ko.xz").write_bytes(damage)
    with pytest.raises(GuestBuildError, match=r"virtio-net\.ko\.xz"):
        ModuleTree(tree).resolve(("virtio_net",))


def test_initramfs_holds_what_a_guest_starts_with_and_is_reproducible() -> None:
    module = Module("virtio_rng", "kernel/drivers/virtio-rng.ko", b"elf", (), ("virtio:d00000004v*",))

    def build(compression: str) -> bytes:
        return build_initramfs(
            busybox=b"busybox",
            release="6.12-test",
            modules=[module],
            hostname="guest",
            compression=compression,
        )

    entries = read_newc(build("none"))
    assert entries["init"][0] == stat.S_IFREG | 0o755
    assert entries["init"][1].startswith(b"#!/bin/busybox sh\n")
    assert entries["bin/busybox"][:2] == (stat.S_IFREG | 0o755, b"busybox")
    assert entries["lib/modules/6.12-test/kernel/drivers/virtio-rng.ko"][1] == b"elf"
    assert entries["dev/console"][2] == (5, 1)
    assert entries["tmp"][0] & 0o7777 == 0o1777
    assert read_newc(gzip.decompress(build("gzip"))) == entries
    assert read_newc(zstandard.ZstdDecompressor().decompressobj().decompress(build("zstd"))) == entries
    assert build("zstd") == build("zstd")
