# SPDX-License-Identifier: MIT
"""Guest memory: host-shared regions, and checked access to them by guest-physical address."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from typing import TYPE_CHECKING, Self

from vdesktop_core._native import ffi, lib
from vdesktop_core.errors import GuestMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from vdesktop_core.hypervisor import VirtualMachine

PAGE_SIZE = 4096
_CHUNK = 1 << 20
_HUGE_PAGE = 2 << 20
#: Of <asm-generic/mman-common.h>: a guest may be told of more memory than it will touch.
_MAP_NORESERVE = 0x4000


def _check_size(name: str, size: int) -> None:
    if size <= 0 or size % PAGE_SIZE:
        raise GuestMemoryError(f"memory region {name!r}: size {size} is not a positive multiple of 4096")


def _cannot_map(name: str, size: int, error: Exception) -> GuestMemoryError:
    return GuestMemoryError(f"cannot map {size >> 20} MiB for {name}: {error}; give the machine less memory")


class MemoryRegion:
    """A piece of host-shared memory (a memfd), so that other processes can map it too.

    Args:
        name: shown in ``/proc/PID/maps``.
        size: in bytes, a multiple of 4096.

    Raises:
        GuestMemoryError: the host cannot give that much.
    """

    def __init__(self, name: str, size: int) -> None:
        _check_size(name, size)
        self.name = name
        self.size = size
        fd = os.memfd_create(f"vdesktop-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            # No process that it is handed to can make it shorter under the others' mappings.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except (OSError, ValueError, OverflowError) as error:
            os.close(fd)
            raise _cannot_map(name, size, error) from error
        if size >= _HUGE_PAGE:
            # Where the host's administrator lets shared memory have them (shmem_enabled): with its own page
            # tables below a guest's, a processor takes an exit for each page that the guest touches first.
            with contextlib.suppress(OSError):
                self._map.madvise(mmap.MADV_HUGEPAGE)
        #: For other processes to map; -1: they cannot.
        self.fd = fd
        self._buffer = ffi.from_buffer(self._map, require_writable=True)
        #: Host virtual address of the first byte.
        self.address = int(ffi.cast("uintptr_t", self._buffer))
        self.view = memoryview(self._map)

    def clear(self, offset: int, size: int) -> None:
        """Fill a range with zeros, without taking memory for pages that were never touched."""
        for start, end, filled in _extents(self.fd, offset, size):
            for at in range(start, end if filled else start, _CHUNK):
                piece = min(_CHUNK, end - at)
                self.view[at : at + piece] = bytes(piece)

    def fill(self, place: int, fd: int, offset: int, size: int) -> int:
        """Copy from a file, in the kernel; return how many bytes there were."""
        # A huge page comes to who touches the mapping, not to who writes to the file: once for each of them.
        for at in (place, *range(-(-place // _HUGE_PAGE) * _HUGE_PAGE, place + size, _HUGE_PAGE)):
            self.view[at] = 0
        os.lseek(self.fd, place, os.SEEK_SET)
        done = 0
        while done < size and (count := os.sendfile(self.fd, fd, offset + done, size - done)):
            done += count
        return done

    def close(self) -> None:
        """Unmap and close. Idempotent. No C structure may point here any more."""
        if self.fd < 0:
            return
        self.view.release()
        ffi.release(self._buffer)
        self._map.close()
        os.close(self.fd)
        self.fd = -1


class PrivateRegion(MemoryRegion):
    """A piece of this process's own memory: no other can map it; in huge pages wherever the host has some.

    Args:
        name: for messages.
        size: in bytes, a multiple of 4096.

    Raises:
        GuestMemoryError: the host cannot give that much.
    """

    def __init__(self, name: str, size: int) -> None:
        _check_size(name, size)
        self.name = name
        self.size = size
        self.fd = -1
        # A guest's huge page has to begin where one of ours does. Guests' banks begin at such addresses.
        spare = _HUGE_PAGE if size >= _HUGE_PAGE else 0
        try:
            self._map = mmap.mmap(-1, size + spare, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
        except (OSError, ValueError, OverflowError) as error:
            raise _cannot_map(name, size, error) from error
        # A program that we start must not have us copy the guest's memory page by page.
        self._map.madvise(mmap.MADV_DONTFORK)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self._buffer = ffi.from_buffer(self._map, require_writable=True)
        begin = int(ffi.cast("uintptr_t", self._buffer))
        self._start = -begin % _HUGE_PAGE if spare else 0
        self.address = begin + self._start
        self.view = memoryview(self._map)[self._start : self._start + size]

    def clear(self, offset: int, size: int) -> None:
        """Fill a range with zeros; whole pages of it go back to the host."""
        end = min(offset + size, self.size)
        first, last = -(-offset // PAGE_SIZE) * PAGE_SIZE, end // PAGE_SIZE * PAGE_SIZE
        if first >= last:
            self.view[offset:end] = bytes(max(0, end - offset))
            return
        self.view[offset:first] = bytes(first - offset)
        self._map.madvise(mmap.MADV_DONTNEED, self._start + first, last - first)
        self.view[last:end] = bytes(end - last)

    def fill(self, place: int, fd: int, offset: int, size: int) -> int:
        """Read from a file; return how many bytes there were."""
        return _read_into(self.view, place, fd, offset, size)

    def close(self) -> None:
        """Unmap. Idempotent. No C structure may point here any more."""
        if self._map.closed:
            return
        self.view.release()
        ffi.release(self._buffer)
        self._map.close()


class HypervisorRegion(MemoryRegion):
    """A piece of a hypervisor's memory that a backend mapped into this process.

    Args:
        name: for messages.
        size: in bytes.
        address: host virtual address of the first byte.
        release: unmaps it; called once.
    """

    def __init__(self, name: str, size: int, address: int, release: Callable[[], None]) -> None:
        self.name = name
        self.size = size
        self.address = address
        self.fd = -1
        self.view = memoryview(ffi.buffer(ffi.cast("char *", address), size)).cast("B")
        self._release: Callable[[], None] | None = release

    def clear(self, offset: int, size: int) -> None:
        """Fill a range with zeros."""
        ffi.memmove(ffi.cast("char *", self.address + offset), bytes(size), size)

    def fill(self, place: int, fd: int, offset: int, size: int) -> int:
        """Read from a file; return how many bytes there were."""
        return _read_into(self.view, place, fd, offset, size)

    def close(self) -> None:
        """Unmap. Idempotent. No C structure may point here any more."""
        release, self._release = self._release, None
        if release is not None:
            self.view.release()
            release()


def _read_into(view: memoryview, place: int, fd: int, offset: int, size: int) -> int:
    done = 0
    with view[place : place + size] as target:
        while done < size and (count := os.preadv(fd, [target[done:]], offset + done)):
            done += count
    return done


def allocate_host_memory(
    vm: VirtualMachine, gpa: int, name: str, size: int, *, readonly: bool = False, shared: bool = True
) -> MemoryRegion:
    """Implement ``allocate_memory`` for backends that map the host's memory into a guest.

    Args:
        vm: the machine.
        gpa: where, page-aligned.
        name: for messages.
        size: in bytes, a multiple of 4096.
        readonly: to the guest.
        shared: let other processes and further mappings have it (a memfd).

    Raises:
        GuestMemoryError: the host cannot give that much.
        BackendError: the backend cannot map it there.
    """
    region = MemoryRegion(name, size) if shared else PrivateRegion(name, size)
    try:
        vm.map_memory(gpa, region, readonly=readonly)
    except BaseException:
        region.close()
        raise
    return region


class GuestMemory:
    """The guest-physical address space, over the checked map of ``vdesktop/mem.h``.

    Regions change only while no virtqueue is live.
    """

    def __init__(self, host: int) -> None:
        self._mem = lib.vd_mem_new(ffi.cast("struct vd_host *", host))
        if self._mem == ffi.NULL:
            raise GuestMemoryError("cannot allocate the guest memory map: the host is out of memory")
        self.regions: dict[int, MemoryRegion] = {}

    @property
    def native(self) -> int:
        """Address of the ``struct vd_mem``."""
        return int(ffi.cast("uintptr_t", self._mem))

    def add(self, gpa: int, region: MemoryRegion, *, readonly: bool = False) -> None:
        """Place a region at a guest-physical address. Raises GuestMemoryError on overlap or wrap-around."""
        flags = lib.VD_MEM_READONLY if readonly else 0
        error = lib.vd_mem_add(self._mem, gpa, region.size, ffi.cast("void *", region.address), flags)
        if error:
            raise GuestMemoryError(f"cannot place {region.name} at {gpa:#x}: {os.strerror(-error)}")
        self.regions[gpa] = region

    def remove(self, gpa: int) -> MemoryRegion:
        """Take a region out of the map; the caller owns it again."""
        error = lib.vd_mem_remove(self._mem, gpa)
        if error:
            raise GuestMemoryError(f"no memory region starts at {gpa:#x}")
        return self.regions.pop(gpa)

    def on_written(self, hook: int) -> None:
        """Have the ``struct vd_written`` at this address called after writes; 0: none."""
        lib.vd_mem_on_written(self._mem, ffi.cast("struct vd_written *", hook))

    def read(self, gpa: int, size: int) -> bytes:
        """Copy ``size`` bytes out. Raises GuestMemoryError where any of them is not memory."""
        if size == 0:
            return b""
        data = bytearray(size)
        if lib.vd_mem_read(self._mem, gpa, ffi.from_buffer(data), size):
            raise GuestMemoryError(f"guest-physical range {gpa:#x}+{size:#x} is not memory")
        return bytes(data)

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes in. Raises GuestMemoryError where any of them is not writable memory."""
        if len(data) and lib.vd_mem_write(self._mem, gpa, ffi.from_buffer(data), len(data)):
            raise GuestMemoryError(f"guest-physical range {gpa:#x}+{len(data):#x} is not writable memory")

    def write_from(self, gpa: int, fd: int, offset: int, size: int) -> int:
        """Copy bytes from a file, in the kernel; return how many there were: fewer at its end.

        Holes of the file cost nothing where the memory was never touched.

        Raises:
            GuestMemoryError: the destination is not wholly writable memory of one region.
            OSError: the file cannot be read.
        """
        base = next((b for b, r in self.regions.items() if b <= gpa and gpa + size <= b + r.size), None)
        if base is None or lib.vd_mem_ptr(self._mem, gpa, size, True) == ffi.NULL:
            raise GuestMemoryError(f"guest-physical range {gpa:#x}+{size:#x} is not writable memory")
        region = self.regions[base]
        done = 0
        for start, end, filled in _extents(fd, offset, size):
            place = gpa - base + start - offset
            if filled:
                done += region.fill(place, fd, start, end - start)
            else:
                region.clear(place, end - start)
                done += end - start
        lib.vd_mem_written(self._mem, gpa, size)
        return done

    def close(self) -> None:
        """Free the map and close every region in it. Idempotent."""
        if self._mem != ffi.NULL:
            lib.vd_mem_free(self._mem)
            self._mem = ffi.NULL
            for region in self.regions.values():
                region.close()
            self.regions.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _extents(fd: int, offset: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """Divide a range of a file, as far as there is one, into (start, end, whether it is more than a hole)."""
    end = min(offset + size, os.fstat(fd).st_size)
    while offset < end:
        try:
            data = min(os.lseek(fd, offset, os.SEEK_DATA), end)
        except OSError as error:
            if error.errno != errno.ENXIO:  # that is: no data from here on
                raise
            data = end
        if data > offset:
            yield offset, data, False
        if data < end:
            offset = min(os.lseek(fd, data, os.SEEK_HOLE), end)
            yield data, offset, True
        else:
            offset = end
