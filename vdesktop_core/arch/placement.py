# SPDX-License-Identifier: MIT
"""Where in RAM things go: some at fixed addresses, the rest as high as they may."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.arch.memory_map import MIB, Window
from vdesktop_core.errors import BootError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Kernels find their boot data below this whatever their RAM; 32-bit DMA masks do not matter then.
LOW_LIMIT = 4 << 30


class Floating(msgspec.Struct, frozen=True):
    """Something to place: ``size`` bytes at a multiple of ``align``, ending at or below ``limit``."""

    name: str
    size: int
    align: int = 4096
    limit: int = LOW_LIMIT


def place(
    bank: Window, fixed: Mapping[str, Window], floating: Sequence[Floating], memory: int
) -> dict[str, Window]:
    """Find a place for everything in a bank of RAM, without overlap.

    Args:
        bank: the RAM to use.
        fixed: what has its place already.
        floating: in order of importance; each goes as high as it may.
        memory: all RAM of the machine, in bytes, for the error's sake.

    Returns:
        All windows by name.

    Raises:
        BootError: there is not enough memory, and how much would be enough.
    """
    for (name, window), (other, used) in itertools.combinations(fixed.items(), 2):
        if window.overlaps(used):
            raise BootError(f"the {name} ({_text(window)}) would overwrite the {other} ({_text(used)})")
    placed, failed = _arrange(bank, fixed, floating)
    if failed is None:
        return placed
    needed = _enough(bank, fixed, floating)
    if needed is None or needed <= memory:
        raise BootError(
            f"the {failed} finds no place in the {bank.size // MIB}M of low memory: use a smaller one"
        )
    raise BootError(
        f"the {failed} does not fit into {memory // MIB}M of memory: use --memory {needed // MIB}M or more"
    )


def _arrange(
    bank: Window, fixed: Mapping[str, Window], floating: Sequence[Floating]
) -> tuple[dict[str, Window], str | None]:
    """Place what can be placed; name the first thing that cannot."""
    placed = dict(fixed)
    for name, window in fixed.items():
        if not bank.contains(window):
            return placed, name
    for item in floating:
        found = _highest(bank, item, list(placed.values()))
        if found is None:
            return placed, item.name
        placed[item.name] = found
    return placed, None


def _highest(bank: Window, item: Floating, used: list[Window]) -> Window | None:
    end = min(bank.end, item.limit)
    while (base := (end - item.size) // item.align * item.align) >= bank.base:
        window = Window(base, item.size)
        conflict = next((other for other in used if other.overlaps(window)), None)
        if conflict is None:
            return window
        end = conflict.base
    return None


def _enough(bank: Window, fixed: Mapping[str, Window], floating: Sequence[Floating]) -> int | None:
    """Return how large the bank would have to be, in bytes: whole MiB; None if no size is enough."""
    least = max((window.end for window in fixed.values()), default=bank.base) - bank.base
    least += sum(item.size for item in floating)
    # Alignment takes at most this much more.
    most = least + sum(item.align for item in floating)
    for size in range(least // MIB, most // MIB + 2):
        if _arrange(Window(bank.base, size * MIB), fixed, floating)[1] is None:
            return size * MIB
    return None


def _text(window: Window) -> str:
    return f"{window.base:#x} to {window.end - 1:#x}"
