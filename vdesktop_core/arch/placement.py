# SPDX-License-Identifier: MIT
"""Where in RAM things go: some at fixed addresses, the rest as high as they may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vdesktop_core.arch.memory_map import MIB, Window
from vdesktop_core.errors import BootError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Kernels find their boot data below this whatever their RAM; 32-bit DMA masks do not matter then.
LOW_LIMIT = 4 << 30


@dataclass(frozen=True, slots=True)
class Floating:
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
    placed = dict(fixed)
    for name, window in fixed.items():
        if not bank.contains(window):
            raise BootError(_too_little(name, bank, fixed, floating, memory))
        for other, used in fixed.items():
            if other != name and used.overlaps(window):
                raise BootError(f"the {name} ({_text(window)}) would overwrite the {other} ({_text(used)})")
    for item in floating:
        found = _highest(bank, item, list(placed.values()))
        if found is None:
            raise BootError(_too_little(item.name, bank, fixed, floating, memory))
        placed[item.name] = found
    return placed


def _highest(bank: Window, item: Floating, used: list[Window]) -> Window | None:
    end = min(bank.end, item.limit)
    while (base := (end - item.size) // item.align * item.align) >= bank.base:
        window = Window(base, item.size)
        conflict = next((other for other in used if other.overlaps(window)), None)
        if conflict is None:
            return window
        end = conflict.base
    return None


def _too_little(
    name: str, bank: Window, fixed: Mapping[str, Window], floating: Sequence[Floating], memory: int
) -> str:
    top = max((window.end for window in fixed.values()), default=bank.base)
    need = top - bank.base
    for item in floating:
        need = (need + item.align - 1) // item.align * item.align + item.size
    needed = (need + MIB - 1) // MIB
    if needed * MIB <= memory:
        return f"the {name} finds no place in the {bank.size // MIB}M of low memory: use a smaller initrd"
    return f"the {name} does not fit into {memory // MIB}M of memory: use --memory {needed}M or more"


def _text(window: Window) -> str:
    return f"{window.base:#x} to {window.end - 1:#x}"
