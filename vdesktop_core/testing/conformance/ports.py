# SPDX-License-Identifier: MIT
"""What only x86 has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vdesktop_core.hypervisor import ExitReason
from vdesktop_core.testing.conformance.base import PATTERN, Base
from vdesktop_core.testing.conformance.guest import Access, Device
from vdesktop_core.testing.conformance.program import Kind, Record, port_in, port_out

if TYPE_CHECKING:
    from vdesktop_core.testing.conformance.guest import Guest


class PortConformance(Base):
    """x86 ports and exceptions; part of the suite for backends that run x86_64 guests."""

    PORT = 0xC000

    @pytest.mark.parametrize("width", [1, 2, 4])
    def test_port_access_of_any_width_reaches_the_device(self, guest: Guest, width: int) -> None:
        device = Device(PATTERN)
        guest.devices.append(device)
        guest.vm.add_pio(self.PORT, 0x10, device.native)
        guest.run([port_in(self.PORT, width), port_out(self.PORT + 8, PATTERN, width)])
        mask = (1 << 8 * width) - 1
        assert guest.result(0) == PATTERN & mask
        assert device.accesses == [Access(0, width, None), Access(8, width, PATTERN & mask)]

    def test_port_of_nothing_reads_ones_and_the_guest_goes_on(self, guest: Guest) -> None:
        hammer = [port_out(self.PORT, 0, width, times=500, stride=width) for width in (1, 2, 4)]
        hammer += [port_in(self.PORT, width, times=500, stride=width) for width in (1, 2, 4)]
        assert guest.run(hammer).reason is ExitReason.SHUTDOWN
        assert [guest.result(3 + i) for i in range(3)] == [0xFF, 0xFFFF, 0xFFFF_FFFF]

    def test_triple_fault_is_a_crash_with_one_line(self, guest: Guest) -> None:
        guest.start([Record(Kind.CRASH)])
        event = guest.ended()
        assert event.reason is ExitReason.CRASH
        assert event.detail
        assert "\n" not in event.detail
        assert guest.run([]).reason is ExitReason.SHUTDOWN
