# SPDX-License-Identifier: MIT
"""The cache of unpacked kernels."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from arch_support import noise, packed

from vdesktop_core.arch.image import cache, cache_index, compression
from vdesktop_core.arch.image.files import ImageFile
from vdesktop_core.errors import BootError

_DATA = noise(3, 700_000)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vdesktop" / "images"


def _unpacked(path: Path, *, size_word: bool = False) -> bytes:
    file = ImageFile.open(path, "kernel", 1 << 30)
    found = cache.unpacked(file, 0, file.size, size_word=size_word)
    try:
        return found.read(0, found.size)
    finally:
        found.close()
        file.close()


def _source(tmp_path: Path, data: bytes = _DATA) -> Path:
    path = tmp_path / "k.gz"
    path.write_bytes(packed(data, "gzip"))
    return path


def _forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def decompress(*_: object) -> object:
        raise AssertionError("unpacked again")

    monkeypatch.setattr(compression, "decompress", decompress)


def test_cache_second_time_does_not_unpack(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _source(tmp_path)
    assert _unpacked(source) == _DATA
    _forbid(monkeypatch)
    assert _unpacked(source) == _DATA
    assert [path.stat().st_mode & 0o777 for path in directory.iterdir()] == [0o600]


def _linked(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpack a file and have the cache remember it, as if it had been there for a while."""
    monkeypatch.setattr(cache_index, "_RACY_NS", 0)
    assert _unpacked(source) == _DATA


def _no_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces(*_: object) -> object:
        raise AssertionError("read the whole file again")

    monkeypatch.setattr(ImageFile, "pieces", pieces)


def test_cache_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _source(tmp_path)
    _linked(source, monkeypatch)
    _forbid(monkeypatch)
    _no_hashing(monkeypatch)
    assert _unpacked(source) == _DATA


def test_cache_fresh_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _source(tmp_path)
    assert _unpacked(source) == _DATA
    _no_hashing(monkeypatch)
    with pytest.raises(AssertionError, match="read the whole file again"):
        _unpacked(source)


def test_cache_same_size_and_mtime_with_other_contents_is_unpacked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _source(tmp_path, _DATA)
    _linked(source, monkeypatch)
    before = source.stat()
    other = bytes(reversed(_DATA))
    source.write_bytes(packed(other, "gzip"))
    assert source.stat().st_size == before.st_size
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _unpacked(source) == other


def test_cache_link_whose_entry_is_gone_is_made_anew(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _source(tmp_path)
    _linked(source, monkeypatch)
    for entry in directory.glob("*.image"):
        entry.unlink()
    assert _unpacked(source) == _DATA
    assert len(list(directory.glob("*.image"))) == 1


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", "."])
def test_cache_link_out_of_the_directory_is_not_followed(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    source = _source(tmp_path)
    _linked(source, monkeypatch)
    (link,) = directory.glob("*.link")
    link.unlink()
    link.symlink_to(target)
    assert _unpacked(source) == _DATA
    assert str(link.readlink()).endswith(".image")


def test_cache_links_without_entry_are_removed(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _source(tmp_path)
    _linked(source, monkeypatch)
    (link,) = directory.glob("*.link")
    for entry in directory.glob("*.image"):
        entry.unlink()
    _unpacked(_source(tmp_path, b"other" * 99))
    assert not link.is_symlink()


@pytest.mark.parametrize("size", [0x1000, 0x1001, 0x8000 - 1, 0x8000])
def test_cache_zeros_are_holes(tmp_path: Path, directory: Path, size: int) -> None:
    data = b"a" + bytes(0x10_0000 - 2) + b"b" + bytes(size)
    assert _unpacked(_source(tmp_path, data)) == data
    (entry,) = directory.iterdir()
    assert entry.stat().st_blocks * 512 < 0x8000


def test_cache_changed_file_is_unpacked_anew(tmp_path: Path) -> None:
    assert _unpacked(_source(tmp_path)) == _DATA
    assert _unpacked(_source(tmp_path, b"other" * 99)) == b"other" * 99


@pytest.mark.parametrize("damage", ["truncate", "extend", "empty", "header"])
def test_cache_damaged_entry_is_made_anew(tmp_path: Path, directory: Path, damage: str) -> None:
    source = _source(tmp_path)
    _unpacked(source)
    (entry,) = directory.iterdir()
    data = bytearray(entry.read_bytes())
    match damage:
        case "truncate":
            del data[-1:]
        case "extend":
            data += b"x"
        case "empty":
            data.clear()
        case "header":
            data[8] ^= 1
    entry.write_bytes(data)
    assert _unpacked(source) == _DATA
    assert directory.joinpath(entry.name).read_bytes()[-len(_DATA) :] == _DATA


def test_cache_symbolic_link_is_not_followed(tmp_path: Path, directory: Path) -> None:
    source = _source(tmp_path)
    _unpacked(source)
    (entry,) = directory.iterdir()
    target = tmp_path / "target"
    entry.rename(target)
    entry.symlink_to(target)
    assert _unpacked(source) == _DATA
    assert not entry.is_symlink()
    assert target.exists()


@pytest.mark.parametrize("place", ["file", "missing"])
def test_cache_unusable_directory_unpacks_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    root = tmp_path / "no"
    if place == "file":
        root.write_text("a file where the directory should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(root if place == "file" else "/proc/nowhere"))
    assert _unpacked(_source(tmp_path)) == _DATA


def test_cache_full_disk_unpacks_in_memory(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if str(directory) in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert _unpacked(_source(tmp_path)) == _DATA
    assert list(directory.iterdir()) == []


def test_cache_corrupt_source_leaves_nothing(tmp_path: Path, directory: Path) -> None:
    source = tmp_path / "k.gz"
    source.write_bytes(packed(_DATA, "gzip")[:-9])
    with pytest.raises(BootError, match="corrupt or truncated"):
        _unpacked(source)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("name", ["gzip", "xz", "zstd", "lz4", "lzma", "bzip2"])
def test_cache_wrong_size_word_is_refused(tmp_path: Path, name: str) -> None:
    source = tmp_path / "k"
    data = packed(_DATA, name)
    source.write_bytes(data)
    assert _unpacked(source, size_word=True) == _DATA
    source.write_bytes(data[:-4] + b"\1\2\3\4")
    with pytest.raises(BootError, match=r"size word says 67305985|corrupt or truncated"):
        _unpacked(source, size_word=True)


def test_cache_beyond_its_limit_drops_the_oldest(
    tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "CACHE_LIMIT", 2 * len(_DATA) + 10_000)
    seen: list[str] = []
    for index in range(4):
        _unpacked(_source(tmp_path, bytes([index]) + _DATA))
        (new,) = {path.name for path in directory.iterdir()} - set(seen)
        seen.append(new)
        os.utime(directory / new, (index, index))
    assert {path.name for path in directory.iterdir()} == set(seen[2:])


def test_cache_leftovers_of_a_crash_are_removed(tmp_path: Path, directory: Path) -> None:
    directory.mkdir(parents=True)
    old, young = directory / ".new-old", directory / ".new-young"
    old.touch()
    young.touch()
    os.utime(old, (1, 1))
    _unpacked(_source(tmp_path))
    assert not old.exists()
    assert young.exists()


def test_cache_concurrent_users_all_get_the_data(tmp_path: Path, directory: Path) -> None:
    source = _source(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: _unpacked(source) == _DATA, range(24)))
    assert all(results)
    assert len(list(directory.iterdir())) == 1
