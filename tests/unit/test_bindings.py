# SPDX-License-Identifier: MIT
"""What backends share about the C below them."""

from __future__ import annotations

import random
from typing import Any

from vdesktop_core._native import ffi
from vdesktop_core.bindings import read_counters, set_bits


def test_bitmap_gives_the_numbers_of_its_bits_in_order() -> None:
    wanted = [*sorted(random.Random(4).sample(range(1024), 100)), 1024 + 63]
    bitmap = ffi.new("uint64_t[]", 17)
    for number in wanted:
        bitmap[number // 64] |= 1 << number % 64
    assert set_bits(bitmap) == wanted
    assert set_bits(ffi.new("uint64_t[]", 3)) == []


def test_counters_are_read_until_there_is_none() -> None:
    values = {"first": 7, "of_a_length_that_fits_the_room_given": (1 << 64) - 1}

    def counter_at(index: int, name: Any, size: int, value: Any) -> int:
        if index == len(values):
            return -2
        text, value[0] = list(values.items())[index]
        ffi.memmove(name, text.encode()[: size - 1] + b"\0", len(text) + 1)
        return 0

    assert read_counters(ffi, counter_at) == values
