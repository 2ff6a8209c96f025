# SPDX-License-Identifier: MIT
"""What a network card is plugged into: the contract of network backends.

A network backend is named in ``--net NAME[=ARGUMENT][,KEY=VALUE…]`` and
registered by the hook ``vdesktop_net_backends``. It gives one file descriptor
for each queue pair; the data plane moves frames between it and guest memory on
its own thread, and Python sees no frame.
"""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING, Protocol

from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Offload(enum.IntFlag):
    """Work on frames that the other end of a port does, as virtio feature bits (virtio 1.4 §5.1.3).

    ``GUEST_*`` is what the port may hand to the guest, the others what it takes from it.
    """

    NONE = 0
    CSUM = 1 << 0
    GUEST_CSUM = 1 << 1
    GUEST_TSO4 = 1 << 7
    GUEST_TSO6 = 1 << 8
    GUEST_ECN = 1 << 9
    HOST_TSO4 = 1 << 11
    HOST_TSO6 = 1 << 12
    HOST_ECN = 1 << 13
    GUEST_USO4 = 1 << 54
    GUEST_USO6 = 1 << 55
    HOST_USO = 1 << 56


class NetPort:
    """An opened network. Derive from it to free more at the end.

    Args:
        fds: a descriptor for each queue pair, non-blocking, one frame a read or write: TAP queues, or one
            end of a ``SOCK_SEQPACKET`` or ``SOCK_DGRAM`` socket pair. None: the cable is out. Owned by this
            object; the data plane duplicates them.
        vnet_hdr: each frame is preceded by ``struct virtio_net_hdr_v1``, 12 bytes, little-endian.
        offloads: what the port can take; needs ``vnet_hdr``.
        mtu: told to the guest, in bytes; 0: not.
        tap: the descriptors are TAP queues, whose offloads follow the guest's driver.
    """

    def __init__(
        self,
        fds: Iterable[int],
        *,
        vnet_hdr: bool = False,
        offloads: Offload = Offload.NONE,
        mtu: int = 0,
        tap: bool = False,
    ) -> None:
        self.fds = tuple(fds)
        self.vnet_hdr = vnet_hdr
        self.offloads = offloads
        self.mtu = mtu
        self.tap = tap

    def counters(self) -> Mapping[str, int]:
        """Monotonic counters of this end, shown beside the card's own."""
        return {}

    def close(self) -> None:
        """Close the descriptors. Idempotent."""
        for fd in self.fds:
            os.close(fd)
        self.fds = ()


class NetBackend(Protocol):
    """A kind of network."""

    name: str

    def open(self, argument: str, options: Sequence[tuple[str, str]]) -> NetPort:
        """Open it.

        Args:
            argument: what follows the name and ``=``, or empty.
            options: the ``KEY=VALUE`` pairs in their order; a key may come again.

        Raises:
            ConfigError: argument or options make no sense.
            DeviceError: the host refuses.
        """
        ...


def split_spec(spec: str) -> tuple[str, str, list[tuple[str, str]]]:
    """Return name, argument and options of ``NAME[=ARGUMENT][,KEY=VALUE…]``.

    Raises:
        ConfigError: an option without a value, or no name.
    """
    head, *rest = spec.split(",")
    name, _, argument = head.partition("=")
    if not name:
        raise ConfigError(f"network {spec!r}: write a name, such as user, tap=INTERFACE or none")
    options = []
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"network {name}: {word!r} is not KEY=VALUE")
        options.append((key, value))
    return name, argument, options


def open_net(spec: str, backends: Mapping[str, NetBackend]) -> NetPort:
    """Open what a specification names.

    Raises:
        ConfigError: unknown name, or options that make no sense.
        DeviceError: the host refuses.
    """
    name, argument, options = split_spec(spec)
    backend = backends.get(name)
    if backend is None:
        raise ConfigError(f"unknown network {name!r}: installed are {', '.join(backends)}")
    return backend.open(argument, options)
