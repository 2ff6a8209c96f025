# SPDX-License-Identifier: MIT
"""Debian's Chromium at the web display of booted guests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for a module's tests; each opens a context of its own.

    Not for longer: while Playwright is there, an event loop runs, and other layers have loops of their own.
    """
    with chromium() as found:
        yield found
