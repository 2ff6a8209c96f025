# SPDX-License-Identifier: MIT
"""The C core and the Python twin on the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.differential.pair import Pair
from vdesktop_core.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """A host that all pairs share."""
    with Host() as host:
        yield host


@pytest.fixture(scope="session")
def pair(host: Host) -> Iterator[Pair]:
    """Guest memory, twice, wiped before each use by the test."""
    with Pair(host) as pair:
        yield pair
