# SPDX-License-Identifier: MIT
"""Network backends of the core: ``tap`` and ``none``."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING

from vdesktop_core.devices.net.port import NetPort, Offload
from vdesktop_core.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.devices.net.port import NetBackend

log = logging.getLogger(__name__)

MAX_QUEUES = 16
VNET_HDR_SIZE = 12
#: linux/if_tun.h
TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x0100, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6 = 1, 2, 4, 8, 0x20, 0x40
#: linux/sockios.h, linux/if.h
SIOCGIFFLAGS, SIOCGIFMTU, IFF_UP = 0x8913, 0x8921, 1
IFNAMSIZ = 16

_TSO = (
    Offload.CSUM | Offload.HOST_TSO4 | Offload.HOST_TSO6 | Offload.HOST_ECN
    | Offload.GUEST_CSUM | Offload.GUEST_TSO4 | Offload.GUEST_TSO6 | Offload.GUEST_ECN
)  # fmt: skip
_USO = Offload.HOST_USO | Offload.GUEST_USO4 | Offload.GUEST_USO6


class TapBackend:
    """``tap=INTERFACE[,queues=N]``: an existing TAP interface, or a new one where this user may create it."""

    name = "tap"

    def open(self, argument: str, options: Sequence[tuple[str, str]]) -> NetPort:
        """See NetBackend."""
        if not 0 < len(argument.encode()) < IFNAMSIZ or "/" in argument:
            raise ConfigError(f"network tap: {argument!r} is no interface name: write tap=NAME")
        queues = 1
        for key, value in options:
            if key != "queues" or not value.isdecimal() or not 1 <= int(value) <= MAX_QUEUES:
                raise ConfigError(f"network tap: {key}={value} is not queues=1…{MAX_QUEUES}")
            queues = int(value)
        with contextlib.ExitStack() as stack:
            fds = []
            for _ in range(queues):
                fds.append(self._queue(argument, multi=queues > 1))
                stack.callback(os.close, fds[-1])
            offloads = self._offloads(fds[0])
            mtu = self._mtu(argument)
            stack.pop_all()
        return NetPort(fds, vnet_hdr=True, offloads=offloads, mtu=mtu, tap=True)

    def _queue(self, interface: str, *, multi: bool) -> int:
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if multi else 0)
        try:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise DeviceError(f"cannot open /dev/net/tun: {error.strerror}; try --net user") from error
        try:
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", interface.encode(), flags))
            fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VNET_HDR_SIZE))
        except OSError as error:
            os.close(fd)
            raise DeviceError(
                f"cannot use the TAP interface {interface}: {_advice(interface, error, multi)}"
            ) from error
        return fd

    def _offloads(self, fd: int) -> Offload:
        """Ask for as much as this kernel knows; the data plane sets what the driver takes."""
        tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
        for flags, offloads in ((tso | TUN_F_USO4 | TUN_F_USO6, _TSO | _USO), (tso, _TSO)):
            with contextlib.suppress(OSError):
                fcntl.ioctl(fd, TUNSETOFFLOAD, flags)
                fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
                return offloads
        return Offload.NONE

    def _mtu(self, interface: str) -> int:
        request = struct.pack("16s24x", interface.encode())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            flags = struct.unpack_from("H", fcntl.ioctl(control, SIOCGIFFLAGS, request), IFNAMSIZ)[0]
            mtu = struct.unpack_from("i", fcntl.ioctl(control, SIOCGIFMTU, request), IFNAMSIZ)[0]
        if not flags & IFF_UP:
            log.warning("interface %s is down: ip link set %s up", interface, interface)
        return min(int(mtu), 0xFFFF)


def _advice(interface: str, error: OSError, multi: bool) -> str:
    create = f"ip tuntap add dev {interface} mode tap user $USER{' multi_queue' if multi else ''}"
    if error.errno == errno.EBUSY:
        return "it is in use by another machine"
    if error.errno == errno.EINVAL:
        return f"it is none, or has another number of queues; create it with: {create}"
    return f"{error.strerror}; as root: {create}"


class NoneBackend:
    """``none``: a card whose cable is out."""

    name = "none"

    def open(self, argument: str, options: Sequence[tuple[str, str]]) -> NetPort:
        """See NetBackend. Takes no options."""
        if argument or options:
            raise ConfigError("network none takes no options")
        return NetPort(())


NET_BACKENDS: list[NetBackend] = [TapBackend(), NoneBackend()]
