# SPDX-License-Identifier: MIT
"""An entropy device whose bytes are throws of a die, for ``[[device]] type = "dice"``.

It has the entropy device's number (virtio 1.4 §5.4), so any guest's own driver binds to it::

    # od -An -tu1 -N10 /dev/hwrng
      3   1   6   6   2   5   1   4   2   3
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from vdesktop_core.devices.base import DeviceConfig, DeviceType
from vdesktop_core.devices.python import PythonDevice, QueueSpec
from vdesktop_core.hooks import hookimpl

if TYPE_CHECKING:
    from vdesktop_core.devices.base import DeviceContext
    from vdesktop_core.virtqueue import Queue

ENTROPY_DEVICE = 4
MOST = 256  # throws for one request: the driver takes fewer than it asked for, the host keeps its memory


class DiceConfig(DeviceConfig, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Keys of its table: how many sides a die has, and a seed for throws that can be told beforehand."""

    sides: int = 6
    seed: int | None = None


class Dice(PythonDevice):
    virtio_id = ENTROPY_DEVICE
    queues = (QueueSpec("requests", 16),)

    def __init__(self, config: DiceConfig, context: DeviceContext) -> None:
        super().__init__(config, context)
        self.random = random.Random(config.seed)  # noqa: S311 - dice, not keys

    def serve(self, queue: Queue) -> None:
        for chain in queue.drain():
            count = min(chain.writable, MOST)
            throws = (self.random.randint(1, self.config.sides) for _ in range(count))
            queue.complete(chain, chain.write(bytes(throws)))


@hookimpl
def vdesktop_device_types() -> list[DeviceType]:
    return [DeviceType("dice", "entropy from throws of a die", ENTROPY_DEVICE, DiceConfig, Dice)]
