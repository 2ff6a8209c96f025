# SPDX-License-Identifier: MIT
"""Clipboards, host and guest: offers of data by type, fetched when somebody pastes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class ClipboardOffer(Protocol):
    """What one side has copied."""

    @property
    def types(self) -> Sequence[str]:
        """Media types it can be had as, best first, such as ``text/plain;charset=utf-8`` or ``image/png``."""
        ...

    async def read(self, media_type: str, limit: int) -> bytes | None:
        """Return the data, ``limit`` bytes at most; None: it is gone, longer, or not to be had as this."""
        ...


class Clipboard(Protocol):
    """The guest's clipboard, as a front-end sees it. Control loop only."""

    def offer(self, offer: ClipboardOffer | None) -> None:
        """Tell the guest what the host has copied; None: nothing any more."""
        ...

    def on_offer(self, offered: Callable[[ClipboardOffer | None], None]) -> Callable[[], None]:
        """Have ``offered`` called with what the guest has copied; returns how to stop that."""
        ...
