# SPDX-License-Identifier: MIT
"""Fixtures of several modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent_guest import FakeGuest


@pytest.fixture
async def fake_guests() -> AsyncIterator[Callable[..., FakeGuest]]:
    """Makes guests with an agent that has not greeted; they end with the test."""
    from agent_guest import FakeGuest

    made: list[FakeGuest] = []

    def make(**policy: bool) -> FakeGuest:
        made.append(FakeGuest(**policy))
        return made[-1]

    yield make
    for guest in made:
        guest.link.close()
        guest.link.close()


@pytest.fixture
async def guest(fake_guests: Callable[..., FakeGuest]) -> FakeGuest:
    """A guest whose agent has greeted."""
    found = fake_guests()
    await found.greet()
    return found
