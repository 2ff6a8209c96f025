# SPDX-License-Identifier: MIT
"""Guest memory as a driver has it: pieces handed out, read and written by guest-physical address."""

from __future__ import annotations

from typing import Protocol


class Memory(Protocol):
    """Guest memory: :class:`~vdesktop_core.memory.GuestMemory` or the twin's."""

    def read(self, gpa: int, size: int, /) -> bytes:
        """Copy bytes out."""
        ...

    def write(self, gpa: int, data: bytes, /) -> None:
        """Copy bytes in."""
        ...


class Arena:
    """Hands out guest memory from a range, first to last, and never takes it back.

    Args:
        memory: where the range lies.
        base: first guest-physical address.
        size: bytes.
    """

    def __init__(self, memory: Memory, base: int, size: int) -> None:
        self.memory = memory
        self.base = base
        self.end = base + size
        self._next = base

    def allocate(self, size: int, align: int = 16) -> int:
        """Return the address of ``size`` zeroed bytes.

        Raises:
            MemoryError: the range is used up.
        """
        start = -(-self._next // align) * align
        if start + size > self.end:
            raise MemoryError(f"the arena of {self.end - self.base} bytes is used up")
        self._next = start + size
        if size:
            self.memory.write(start, bytes(size))
        return start

    def reset(self) -> None:
        """Take everything back."""
        self._next = self.base
