# SPDX-License-Identifier: MIT
"""The network backend ``user``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vdesktop_core.devices.console.terminal import tell
from vdesktop_core.devices.net.port import NetPort, Offload
from vdesktop_core.errors import ConfigError, DeviceError
from vdesktop_usernet._usernet import ffi, lib
from vdesktop_usernet.options import Forward, Options, parse_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: libslirp's end takes long TCP segments as they are, and what it makes has right checksums.
OFFLOADS = Offload.CSUM | Offload.GUEST_CSUM | Offload.HOST_TSO4 | Offload.HOST_TSO6
COUNTERS = ("tx_frames", "rx_frames", "rx_dropped", "tx_malformed", "guest_errors", "wakeups")
_ERRORS = {
    lib.USERNET_NO_LIBRARY: "libslirp.so.0 is not installed: apt install libslirp0, or use another --net",
    lib.USERNET_OLD_LIBRARY: "this libslirp is older than 4.1: upgrade it (libslirp0)",
    lib.USERNET_REFUSED: "libslirp refuses this configuration",
    lib.USERNET_NO_RESOURCES: "the host is out of memory, threads or descriptors",
}


class UserPort(NetPort):
    """A running user network.

    Attributes:
        forwards: the ports that lead to the guest, with the host ports they really got.
    """

    def __init__(self, options: Options) -> None:
        hostname = ffi.new("char[]", options.hostname.encode()) if options.hostname else ffi.NULL
        config = ffi.new(
            "struct usernet_config *",
            {
                "restricted": options.restrict,
                "ipv6": options.ipv6,
                "mtu": options.mtu,
                "hostname": hostname,
            },
        )
        error = ffi.new("int *")
        self._net = lib.usernet_open(config, error)
        if self._net == ffi.NULL:
            raise DeviceError(f"no user networking: {_ERRORS[error[0]]}")
        super().__init__((lib.usernet_fd(self._net),), vnet_hdr=True, offloads=OFFLOADS, mtu=options.mtu)
        try:
            self.forwards = tuple(self._forward(forward) for forward in options.forwards)
        except DeviceError:
            self.close()
            raise

    def _forward(self, wanted: Forward) -> Forward:
        port = lib.usernet_forward(
            self._net,
            wanted.protocol == "udp",
            int(wanted.host),
            wanted.host_port,
            int(wanted.guest or 0),
            wanted.guest_port,
        )
        if port < 0:
            raise DeviceError(
                f"cannot forward {wanted.host}:{wanted.host_port} ({wanted.protocol}): {os.strerror(-port)}"
            )
        return Forward(wanted.protocol, wanted.host, int(port), wanted.guest, wanted.guest_port)

    def counters(self) -> Mapping[str, int]:
        """Frames as this end sees them, and what went wrong."""
        counters = ffi.new("struct usernet_counters *")
        lib.usernet_get_counters(self._net, counters)
        return {key: int(getattr(counters, key)) for key in COUNTERS}

    def close(self) -> None:
        """End the network: its thread, its connections, its ports. Idempotent."""
        self.fds = ()  # closed with the network
        if self._net != ffi.NULL:
            lib.usernet_close(self._net)
            self._net = ffi.NULL


class UserBackend:
    """``user[,hostfwd=…][,restrict=on][,ipv6=off][,mtu=N][,hostname=NAME]``."""

    name = "user"

    def open(self, argument: str, options: Sequence[tuple[str, str]]) -> NetPort:
        """See NetBackend. Host ports that were left to choose are told."""
        if argument:
            raise ConfigError(
                f"network user takes no argument, not {argument!r}: use options, user,KEY=VALUE"
            )
        wanted = parse_options(options)
        port = UserPort(wanted)
        for asked, got in zip(wanted.forwards, port.forwards, strict=True):
            if not asked.host_port:
                tell(f"{got.protocol} port {got.host}:{got.host_port} leads to the guest's {got.guest_port}")
        return port
