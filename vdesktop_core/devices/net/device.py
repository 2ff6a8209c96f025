# SPDX-License-Identifier: MIT
"""The network card: configuration, and the Python face of its data plane."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.base import Device, DeviceConfig, DeviceContext, DeviceType
from vdesktop_core.devices.net.port import open_net, split_spec
from vdesktop_core.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping

VIRTIO_ID = 1
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
COUNTERS = (
    "rx_frames", "rx_bytes", "tx_frames", "tx_bytes",
    "rx_filtered", "rx_too_long", "rx_stalls",
    "tx_bad_length", "tx_bad_header", "tx_refused", "tx_stalls",
    "ctrl_commands", "ctrl_refused",
)  # fmt: skip


class NetConfig(DeviceConfig, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """``[[device]] type = "net"``.

    Attributes:
        backend: what it is plugged into, as in ``--net``.
        mac: ``02:12:34:56:78:9a``; default: a locally administered one, the same for the same machine and
            device name.
    """

    type: str = "net"
    backend: str = "user"
    mac: str = ""

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if self.mac and (not _MAC.fullmatch(self.mac) or int(self.mac[:2], 16) & 1):
            raise ConfigError(f"network: {self.mac!r} is not a unicast MAC address such as 02:12:34:56:78:9a")


def parse_net(spec: str) -> NetConfig | None:
    """Return the configuration that ``--net SPEC`` means; None for ``none``.

    Raises:
        ConfigError: it means nothing.
    """
    name, argument, options = split_spec(spec)
    if name == "none" and not argument and not options:
        return None
    mac = [value for key, value in options if key == "mac"]
    words = [f"{name}={argument}" if argument else name]
    words += [f"{key}={value}" for key, value in options if key != "mac"]
    return NetConfig(backend=",".join(words), mac=mac[-1] if mac else "")


def stable_mac(machine: str, device: str) -> bytes:
    """Return a locally administered unicast address that depends on both names only."""
    # FNV-1a. Names need telling apart, not secrecy, and hashlib would load all of OpenSSL: 3.5 MB.
    value = 0xCBF2_9CE4_8422_2325
    for byte in f"{machine}/{device}".encode():
        value = (value ^ byte) * 0x100_0000_01B3 % (1 << 64)
    mac = bytearray((value ^ value >> 32).to_bytes(8, "big")[2:])
    mac[0] = mac[0] & 0xFC | 0x02
    return bytes(mac)


class NetDevice(Device):
    """A virtio network card.

    Raises:
        ConfigError: the backend is unknown or its options make no sense.
        DeviceError: the host refuses.
    """

    def __init__(self, config: NetConfig, context: DeviceContext) -> None:
        super().__init__(context)
        self._closed = self._port_closed = False
        with contextlib.ExitStack() as stack:
            #: What it is plugged into.
            self.port = open_net(config.backend, context.plugins["net"])
            stack.callback(self.port.close)
            self.mac = (
                bytes.fromhex(config.mac.replace(":", ""))
                if config.mac
                else stable_mac(context.machine, context.name)
            )
            flags = (lib.VD_NET_VNET_HDR if self.port.vnet_hdr else 0) | (
                lib.VD_NET_TAP if self.port.tap else 0
            )
            error = ffi.new("int *")
            self._net = lib.vd_net_new(
                ffi.cast("struct vd_host *", context.host),
                ffi.cast("struct vd_mem *", context.memory.native),
                ffi.cast("struct vd_loop *", context.loop),
                context.name.encode(),
                ffi.new(
                    "struct vd_net_config *",
                    {
                        "mac": self.mac,
                        "mtu": self.port.mtu,
                        "pairs": max(1, len(self.port.fds)),
                        "flags": flags,
                        "offloads": int(self.port.offloads),
                        "fd": self.port.fds or [-1],
                    },
                ),
                error,
            )
            if self._net == ffi.NULL:
                raise DeviceError(f"cannot create {context.name}: {os.strerror(-error[0])}")
            stack.callback(lib.vd_net_free, self._net)
            self._stack = stack.pop_all()

    @property
    def native(self) -> int:
        """Address of the ``struct vd_device``."""
        return int(ffi.cast("uintptr_t", lib.vd_net_device(self._net)))

    def set_link(self, *, up: bool) -> None:
        """Plug the cable in or out; the guest is told."""
        lib.vd_net_set_link(self._net, up)

    def counters(self) -> Mapping[str, int]:
        """Frames and bytes by direction, and every kind of drop; the backend's under ``port_…``."""
        if self._closed:
            return {}
        counters = ffi.new("struct vd_net_counters *")
        lib.vd_net_counters(self._net, counters)
        found = {key: int(getattr(counters, key)) for key in COUNTERS}
        if self._port_closed:
            return found
        return found | {f"port_{key}": value for key, value in self.port.counters().items()}

    def lost(self) -> None:
        """Close what it was plugged into; its link is down, and the guest's frames go nowhere."""
        self._port_closed = True
        self.port.close()

    def close(self) -> None:
        """Free the card, then what it is plugged into. Idempotent."""
        self._closed = True
        self._stack.close()


DEVICE_TYPE = DeviceType(
    name="net",
    summary="network card",
    virtio_id=VIRTIO_ID,
    config=NetConfig,
    create=NetDevice,
)
