# SPDX-License-Identifier: GPL-2.0-only
"""What a guest's clock did while the guest was paused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vdesktop_core.hypervisor import VirtualMachine

PATIENCE = 120


def seconds_across_a_pause(
    vm: VirtualMachine, clock: Callable[[], float], forget: Callable[[], None]
) -> float:
    """Pause a guest that stores its clock again and again; return how much more it went on than it may.

    Only upper bounds of what the guest can have run are used, so a busy host cannot make this positive.

    Args:
        vm: a running guest.
        clock: what the guest last stored, in seconds; 0: nothing since ``forget``.
        forget: clears that.
    """

    def fresh() -> float:
        for _ in range(2):  # the first one may have been read before it was asked for
            forget()
            while not (read := clock()):
                assert time.monotonic() < begin + PATIENCE, "the guest stands still"
                time.sleep(0.001)
        return read

    begin = time.monotonic()
    first = fresh()
    vm.pause()
    paused_at = time.monotonic()
    time.sleep(1)
    paused = time.monotonic() - paused_at
    vm.resume()
    last = fresh()
    return last - first - (time.monotonic() - begin - paused)
