# SPDX-License-Identifier: MIT
"""What the parts of the suite share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from vdesktop_core.testing.conformance.guest import Guest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vdesktop_core.hypervisor import Arch, Hypervisor

PATTERN = 0x8877_6655_4433_2211


class Base:
    #: What makes the backend: a class, or a function of no arguments.
    hypervisor: ClassVar[Callable[[], Hypervisor]]
    arch: ClassVar[Arch]

    @pytest.fixture
    def backend(self) -> Hypervisor:
        """The backend under test."""
        return type(self).hypervisor()

    @pytest.fixture
    def guest(self, backend: Hypervisor) -> Iterator[Guest]:
        """A machine with one CPU."""
        with Guest(backend, self.arch) as guest:
            yield guest

    @pytest.fixture
    def slot(self, guest: Guest) -> int:
        """The address of a slot that nothing answers yet."""
        return guest.map.slot(1).base
