# SPDX-License-Identifier: MIT
"""What backends' Python parts share about the C below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_WORD_BITS = 64
_NAME_SIZE = 64


def set_bits(words: Iterable[int]) -> list[int]:
    """Return the numbers of the bits that are set, ascending: of a dirty log, the pages.

    Args:
        words: of 64 bits each, the lowest bits first.
    """
    return [
        _WORD_BITS * index + bit
        for index, word in enumerate(words)
        if word
        for bit in range(_WORD_BITS)
        if word >> bit & 1
    ]


def read_counters(ffi: Any, counter_at: Callable[[int, Any, int, Any], int]) -> dict[str, int]:
    """Return counters by name.

    Args:
        ffi: cffi's, of the extension that ``counter_at`` belongs to.
        counter_at: takes a counter's index, room for its name, that room in bytes, and where its value goes;
            returns 0, or something else where there is no such counter.
    """
    name, value = ffi.new("char[]", _NAME_SIZE), ffi.new("uint64_t *")
    found: dict[str, int] = {}
    while counter_at(len(found), name, _NAME_SIZE, value) == 0:
        found[ffi.string(name).decode()] = int(value[0])
    return found
