# SPDX-License-Identifier: MIT
"""Guest memory of the twin: byte arrays at guest-physical addresses."""

from __future__ import annotations

from dataclasses import dataclass

#: Guest-physical addresses have 64 bits and do not wrap around.
ADDRESS_LIMIT = 1 << 64


class OutsideMemory(Exception):  # noqa: N818  (a condition the twin reports, not an error of the program)
    """An access that is not, or not wholly, to suitable memory."""


@dataclass
class _Region:
    base: int
    data: bytearray
    readonly: bool

    @property
    def end(self) -> int:
        return self.base + len(self.data)


class TwinMemory:
    """A checked map of guest-physical memory, as ``vdesktop/mem.h`` describes it."""

    def __init__(self) -> None:
        self._regions: list[_Region] = []
        self.writes: list[tuple[int, int]] = []  #: (gpa, length) told by :meth:`written`

    def add(self, base: int, data: bytearray, *, readonly: bool = False) -> None:
        """Place bytes at an address; ValueError where they overlap others or wrap around."""
        new = _Region(base, data, readonly)
        if not data or new.end > ADDRESS_LIMIT:
            raise ValueError("empty or wrapping region")
        if any(new.base < old.end and old.base < new.end for old in self._regions):
            raise ValueError("overlapping regions")
        self._regions.append(new)

    def _find(self, gpa: int) -> _Region | None:
        return next((r for r in self._regions if r.base <= gpa < r.end), None)

    def span(self, gpa: int, size: int, *, write: bool) -> int:
        """Return how many of ``size`` bytes at ``gpa`` lie in one suitable region."""
        region = self._find(gpa)
        if region is None or (write and region.readonly):
            return 0
        return min(size, region.end - gpa)

    def is_contiguous(self, gpa: int, size: int, *, write: bool) -> bool:
        """Tell whether the whole range lies in one suitable region."""
        return size > 0 and self.span(gpa, size, write=write) == size

    def split(self, gpa: int, size: int, *, write: bool) -> list[tuple[int, int]]:
        """Cut a range at region borders into (gpa, length) pieces.

        Raises:
            OutsideMemory: part of it is not suitable memory.
        """
        pieces = []
        while size:
            part = self.span(gpa, size, write=write) if gpa < ADDRESS_LIMIT else 0
            if not part:
                raise OutsideMemory(f"{gpa:#x}")
            pieces.append((gpa, part))
            gpa += part
            size -= part
        return pieces

    def read(self, gpa: int, size: int) -> bytes:
        """Read across regions, or raise OutsideMemory."""
        data = bytearray()
        for start, length in self.split(gpa, size, write=False):
            region = self._find(start)
            assert region is not None  # noqa: S101  (split found it)
            data += region.data[start - region.base : start - region.base + length]
        return bytes(data)

    def write(self, gpa: int, data: bytes) -> None:
        """Write across regions, or raise OutsideMemory with nothing written."""
        done = 0
        for start, length in self.split(gpa, len(data), write=True):
            region = self._find(start)
            assert region is not None  # noqa: S101  (split found it)
            region.data[start - region.base : start - region.base + length] = data[done : done + length]
            done += length

    def written(self, gpa: int, size: int) -> None:
        """Note what a device told the backend that it wrote."""
        self.writes.append((gpa, size))
