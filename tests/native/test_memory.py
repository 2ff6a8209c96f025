# SPDX-License-Identifier: MIT
"""The checked map of guest memory."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest
from places import RAM, RAM_SIZE, ROM

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import GuestMemoryError
from vdesktop_core.host import Host
from vdesktop_core.memory import GuestMemory, HypervisorRegion, MemoryRegion, PrivateRegion

BORDER = RAM + RAM_SIZE // 2 + 0x1000


def test_read_across_regions_returns_bytes_of_both(memory: GuestMemory) -> None:
    memory.write(BORDER - 3, b"abcdef")
    assert memory.read(BORDER - 3, 6) == b"abcdef"
    assert memory.read(BORDER, 3) == b"def"


@pytest.mark.parametrize(
    ("gpa", "size"),
    [(RAM - 1, 2), (RAM + RAM_SIZE - 1, 2), (0, 1), ((1 << 64) - 1, 1), ((1 << 64) - 1, 16), (ROM + 4090, 7)],
)
def test_read_outside_of_memory_is_refused(memory: GuestMemory, gpa: int, size: int) -> None:
    with pytest.raises(GuestMemoryError, match="is not memory"):
        memory.read(gpa, size)
    assert lib.vd_mem_ptr(memory._mem, gpa, size, False) == ffi.NULL


@pytest.mark.parametrize("size", [1 << 40, (1 << 64) - 1, (1 << 64) - RAM])
def test_ptr_of_huge_length_is_refused(memory: GuestMemory, size: int) -> None:
    assert lib.vd_mem_ptr(memory._mem, RAM, size, False) == ffi.NULL


def test_write_to_readonly_region_is_refused(memory: GuestMemory) -> None:
    assert memory.read(ROM, 1) == b"\0"
    with pytest.raises(GuestMemoryError, match="not writable"):
        memory.write(ROM, b"x")
    assert memory.read(ROM, 1) == b"\0"


def test_ptr_across_regions_is_refused_although_all_is_memory(memory: GuestMemory) -> None:
    assert lib.vd_mem_ptr(memory._mem, BORDER - 8, 8, True) != ffi.NULL
    assert lib.vd_mem_ptr(memory._mem, BORDER - 8, 9, True) == ffi.NULL


def test_ptr_of_no_bytes_is_refused(memory: GuestMemory) -> None:
    assert lib.vd_mem_ptr(memory._mem, RAM, 0, False) == ffi.NULL


@pytest.mark.parametrize("gpa", [RAM, RAM - 0x1000, RAM + 0x1000, RAM + RAM_SIZE - 0x1000])
def test_add_overlapping_region_is_refused(memory: GuestMemory, gpa: int) -> None:
    region = MemoryRegion("over", 0x2000)
    with pytest.raises(GuestMemoryError, match="File exists"):
        memory.add(gpa, region)
    region.close()


def test_add_region_round_the_end_of_the_address_space_is_refused(memory: GuestMemory) -> None:
    region = MemoryRegion("end", 0x2000)
    with pytest.raises(GuestMemoryError, match="Invalid argument"):
        memory.add((1 << 64) - 0x1000, region)
    memory.add((1 << 64) - 0x2000, region)
    memory.write((1 << 64) - 1, b"z")
    assert memory.read((1 << 64) - 1, 1) == b"z"
    with pytest.raises(GuestMemoryError):
        memory.read((1 << 64) - 1, 2)


def test_add_more_regions_than_the_map_holds_is_refused(memory: GuestMemory) -> None:
    room = lib.VD_MEM_MAX_REGIONS - len(memory.regions)
    for i in range(room):
        memory.add(i * 0x2000, MemoryRegion("many", 0x1000))
    extra = MemoryRegion("extra", 0x1000)
    with pytest.raises(GuestMemoryError, match="No space"):
        memory.add(room * 0x2000, extra)
    extra.close()


def test_remove_region_makes_its_addresses_unmapped(memory: GuestMemory) -> None:
    memory.remove(ROM).close()
    with pytest.raises(GuestMemoryError):
        memory.read(ROM, 1)
    with pytest.raises(GuestMemoryError):
        memory.remove(ROM)


def test_write_tells_the_written_hook_what_was_written(memory: GuestMemory) -> None:
    seen = []
    hook = ffi.callback("void(void *, uint64_t, uint64_t)", lambda _, gpa, size: seen.append((gpa, size)))
    written = ffi.new("struct vd_written *", {"fn": hook})
    memory.on_written(int(ffi.cast("uintptr_t", written)))
    memory.write(RAM + 5, b"abc")
    memory.on_written(0)
    memory.write(RAM + 6, b"abc")
    assert seen == [(RAM + 5, 3)]


def test_write_from_file_copies_and_says_how_much(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 32)
    written = []
    callback = ffi.callback(
        "void(void *, uint64_t, uint64_t)", lambda _, gpa, size: written.append((gpa, size))
    )
    hook = ffi.new("struct vd_written *", {"fn": callback})
    with Host() as host, GuestMemory(host.native) as memory, path.open("rb") as file:
        memory.add(0x10000, MemoryRegion("ram", 0x4000))
        memory.on_written(int(ffi.cast("uintptr_t", hook)))
        assert memory.write_from(0x10100, file.fileno(), 16, 0x1000) == 0x1000
        assert memory.read(0x100FF, 0x1002) == b"\0" + path.read_bytes()[16 : 16 + 0x1000] + b"\0"
        assert written == [(0x10100, 0x1000)]
        assert memory.write_from(0x10000, file.fileno(), 0x1FF0, 0x100) == 0x10
        memory.on_written(0)


def test_write_from_sparse_file_takes_no_memory_and_clears_what_was_there(tmp_path):
    path = tmp_path / "data"
    with path.open("wb") as file:
        file.write(b"head")
        file.truncate(0x40_0000)
        file.seek(0x20_0000 + 5)
        file.write(b"middle")
    expected = path.read_bytes()
    region = MemoryRegion("ram", 0x80_0000)
    with Host() as host, GuestMemory(host.native) as memory, path.open("rb") as file:
        memory.add(0, region)
        assert memory.write_from(0, file.fileno(), 0, 0x40_0000) == 0x40_0000
        assert os.fstat(region.fd).st_blocks * 512 < 0x10_0000  # the holes took nothing
        assert memory.read(0, 0x40_0000) == expected
        memory.write(0, b"x" * 0x80_0000)
        assert memory.write_from(0x123, file.fileno(), 1, 0x30_0000) == 0x30_0000
        assert memory.read(0x123, 0x30_0000) == expected[1 : 1 + 0x30_0000]
        assert memory.read(0, 0x123) == b"x" * 0x123
        assert memory.read(0x123 + 0x30_0000, 0x1000) == b"x" * 0x1000
        assert memory.write_from(0x1000, file.fileno(), 0x3F_FF00, 0x1000) == 0x100  # ends in a hole


def test_write_from_file_beyond_a_region_writes_nothing(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"x" * 0x2000)
    with Host() as host, GuestMemory(host.native) as memory, path.open("rb") as file:
        memory.add(0x10000, MemoryRegion("ram", 0x1000))
        memory.add(0x11000, MemoryRegion("rom", 0x1000), readonly=True)
        for gpa in (0xF000, 0x10800, 0x11000, 2**64 - 16):
            with pytest.raises(GuestMemoryError):
                memory.write_from(gpa, file.fileno(), 0, 0x1000)
        assert memory.read(0x10000, 0x2000) == bytes(0x2000)


def test_region_of_a_hypervisor_is_released_once_and_takes_files(tmp_path: Path, memory: GuestMemory) -> None:
    backing = MemoryRegion("backing", 0x1000)
    released: list[int] = []
    region = HypervisorRegion("foreign", 0x1000, backing.address, lambda: released.append(1))
    memory.add(0x90_0000, region)
    source = tmp_path / "file"
    source.write_bytes(b"12345678")
    with source.open("rb") as file:
        assert memory.write_from(0x90_0010, file.fileno(), 2, 100) == 6
    assert bytes(backing.view[0x10:0x18]) == b"345678\0\0"
    assert region.fd == -1
    memory.remove(0x90_0000).close()
    region.close()
    assert released == [1]
    backing.close()


def smaps(address: int) -> dict[str, str]:
    """What the kernel says of the mapping that an address lies in."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        head = re.match("([0-9a-f]+)-([0-9a-f]+) ", line)
        if head and int(head[1], 16) <= address < int(head[2], 16):
            return dict(line.split(":", 1) for line in itertools.islice(lines, 25) if ":" in line)
    raise AssertionError(f"nothing is mapped at {address:#x}")


def test_private_region_is_nobody_elses_and_stays_out_of_programs_that_are_started() -> None:
    region = PrivateRegion("ram", 4 << 20)
    region.view[: 1 << 20] = b"x" * (1 << 20)
    assert region.fd == -1
    assert region.address % (2 << 20) == 0  # where a huge page may begin
    flags = smaps(region.address)["VmFlags"].split()
    assert "dc" in flags  # MADV_DONTFORK
    assert "sh" not in flags
    region.close()
    region.close()


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 16384), (5, 4000), (4090, 10), (100, 12288), (4096, 8192), (9, 1 << 30)]
)
def test_private_region_clear_makes_zeros_of_the_range_alone(offset: int, size: int) -> None:
    region = PrivateRegion("ram", 16384)
    region.view[:] = b"x" * 16384
    region.clear(offset, size)
    end = min(offset + size, 16384)
    assert bytes(region.view) == b"x" * offset + bytes(end - offset) + b"x" * (16384 - end)
    region.close()


def test_private_region_of_huge_pages_clears_what_is_named_wherever_it_begins() -> None:
    size, first, end = 6 << 20, (2 << 20) - 5000, (4 << 20) + 9000
    region = PrivateRegion("ram", size)
    region.view[:] = b"x" * size
    region.clear(first, end - first)
    assert bytes(region.view) == b"x" * first + bytes(end - first) + b"x" * (size - end)
    region.close()


def test_private_region_takes_a_file_as_the_shared_does(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(b"a" * 5000 + bytes(9000) + b"b" * 300)
    found = []
    for kind in (MemoryRegion, PrivateRegion):
        region = kind("ram", 64 << 10)
        region.view[:] = b"x" * region.size
        with GuestMemory(host.native) as memory, path.open("rb") as file:
            memory.add(RAM, region)
            assert memory.write_from(RAM + 100, file.fileno(), 0, 20000) == 14300
            found.append(memory.read(RAM, 64 << 10))
    assert found[0] == found[1] == b"x" * 100 + path.read_bytes() + b"x" * ((64 << 10) - 14400)


@pytest.mark.parametrize("size", [0, -4096, 100, 1 << 62])
def test_private_region_that_cannot_be_is_refused_in_a_line(size: int) -> None:
    with pytest.raises(GuestMemoryError, match="ram"):
        PrivateRegion("ram", size)
