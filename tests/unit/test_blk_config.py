# SPDX-License-Identifier: MIT
"""A disk's configuration: ``--disk``, and which format an image is taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from vdesktop_core.devices.blk import DISK_FORMATS, BlkConfig, CacheMode, parse_disk
from vdesktop_core.devices.blk.store import choose_format
from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = {disk_format.name: disk_format for disk_format in DISK_FORMATS}


def test_disk_with_only_a_file_is_writable_and_cached() -> None:
    assert parse_disk("disk.img") == BlkConfig(path="disk.img", readonly=False, cache=CacheMode.WRITEBACK)


def test_disk_with_options_has_them() -> None:
    config = parse_disk("a.img,ro,format=qcow2,serial=X1,queues=4,cache=none,discard=false,block_size=4096")
    assert config == BlkConfig(
        path="a.img",
        readonly=True,
        format="qcow2",
        serial="X1",
        queues=4,
        cache=CacheMode.NONE,
        discard=False,
        block_size=4096,
    )


def test_disk_with_a_doubled_comma_names_a_file_with_a_comma() -> None:
    assert parse_disk("a,,b.img,ro").path == "a,b.img"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("a.img,rw", "'rw' is not known"),
        ("a.img,size=5", "'size=5' is not known"),
        ("a.img,path=b", "'path=b' is not known"),
        ("a.img,ro=1", "'ro=1' is not known"),
        ("", "path is empty"),
        ("a.img,queues=0", "queues = 0: 1 to 16"),
        ("a.img,queues=x", "queues"),
        ("a.img,queue_size=100", "queue_size = 100: a power of two"),
        ("a.img,block_size=256", "block_size = 256: 512 to 65536"),
        ("a.img,cache=unsafe", "unsafe"),
        ("a.img,serial=012345678901234567890", "at most 20"),
        ("a.img,serial=ä", "printable ASCII"),
    ],
)
def test_disk_with_a_mistake_is_refused_in_one_line(spec: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"^--disk ") as caught:
        parse_disk(spec)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_table_with_an_unknown_key_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="sizes"):
        msgspec.convert({"type": "blk", "path": "a", "sizes": 1}, BlkConfig)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.img", "raw"), ("a.qcow2", "qcow2"), ("A.QCOW2", "qcow2"), ("a.vmdk", "vmdk"), ("a", "raw")],
)
def test_file_name_means_a_format(tmp_path: Path, name: str, expected: str) -> None:
    assert choose_format(tmp_path / name, None, FORMATS).name == expected


def test_content_never_chooses_a_format(tmp_path: Path) -> None:
    """A guest wrote an image header, naming a host file as its backing, to its raw disk."""
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"QFI\xfb" + bytes(508))
    with pytest.raises(ConfigError, match=r"add format=qcow2, or format=raw"):
        choose_format(disk, None, FORMATS)
    assert choose_format(disk, "raw", FORMATS).name == "raw"
    assert choose_format(disk, "qcow2", FORMATS).name == "qcow2"


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown format 'zip': use one of raw, qcow2"):
        choose_format(tmp_path / "a", "zip", FORMATS)
