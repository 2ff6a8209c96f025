# SPDX-License-Identifier: MIT
"""What ``--net user,…`` can be told."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Ethernet's, and what libslirp can do at most.
MTU_MIN, MTU_MAX = 576, 65521
_FORWARD = re.compile(r"(tcp|udp):([^:]*):(\d{1,5})-([^:]*):(\d{1,5})")


class Forward(msgspec.Struct, frozen=True):
    """A host port that leads to the guest.

    Attributes:
        protocol: ``tcp`` or ``udp``.
        host: IPv4 address of the host it listens at.
        host_port: 0 takes a free one.
        guest: IPv4 address of the guest, or None for the one that DHCP gives it.
        guest_port: 1 to 65535.
    """

    protocol: str
    host: ipaddress.IPv4Address
    host_port: int
    guest: ipaddress.IPv4Address | None
    guest_port: int


class Options(msgspec.Struct, frozen=True):
    """A user network.

    Attributes:
        forwards: ports that lead to the guest.
        restrict: the guest reaches nothing, not even the host, but for answers through ``forwards``.
        ipv6: fec0::/64 beside 10.0.2.0/24.
        mtu: in bytes, 576 to 65521; the guest is told.
        hostname: what DHCP calls the guest; empty: nothing.
    """

    forwards: tuple[Forward, ...] = ()
    restrict: bool = False
    ipv6: bool = True
    mtu: int = MTU_MAX - 1
    hostname: str = ""


def _address(text: str, what: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError as error:
        raise ConfigError(f"network user: hostfwd: {what} {text!r} is not an IPv4 address") from error


def parse_forward(text: str) -> Forward:
    """Parse ``tcp:127.0.0.1:2222-:22``: protocol, host address and port, guest address and port.

    An empty host address is 127.0.0.1, so that nothing is opened to others unasked.

    Raises:
        ConfigError: it is something else.
    """
    match = _FORWARD.fullmatch(text)
    if not match:
        raise ConfigError(
            f"network user: hostfwd={text}: write tcp|udp:[HOST]:PORT-[GUEST]:PORT, such as tcp::2222-:22"
        )
    protocol, host, host_port, guest, guest_port = match.groups()
    if int(host_port) > 0xFFFF or not 0 < int(guest_port) <= 0xFFFF:
        raise ConfigError(f"network user: hostfwd={text}: a port is 1 to 65535, and 0 for any on the host")
    return Forward(
        protocol,
        _address(host or "127.0.0.1", "host"),
        int(host_port),
        _address(guest, "guest") if guest else None,
        int(guest_port),
    )


def _switch(key: str, value: str) -> bool:
    if value not in ("on", "off"):
        raise ConfigError(f"network user: {key}={value} is neither on nor off")
    return value == "on"


def parse_options(pairs: Sequence[tuple[str, str]]) -> Options:
    """Make sense of ``KEY=VALUE`` pairs.

    Raises:
        ConfigError: unknown key, or a value that does not fit.
    """
    forwards, restrict, ipv6, mtu, hostname = [], False, True, MTU_MAX - 1, ""
    for key, value in pairs:
        if key == "hostfwd":
            forwards.append(parse_forward(value))
        elif key == "restrict":
            restrict = _switch(key, value)
        elif key == "ipv6":
            ipv6 = _switch(key, value)
        elif key == "hostname":
            if not re.fullmatch(r"[A-Za-z0-9-]{1,63}", value):
                raise ConfigError(f"network user: hostname={value}: use up to 63 letters, digits or '-'")
            hostname = value
        elif key == "mtu":
            if not value.isdecimal() or not MTU_MIN <= int(value) <= MTU_MAX:
                raise ConfigError(f"network user: mtu={value} is not {MTU_MIN} to {MTU_MAX}")
            mtu = int(value)
        else:
            raise ConfigError(
                f"network user has no option {key!r}: it has hostfwd, restrict, ipv6, mtu and hostname"
            )
    return Options(tuple(forwards), restrict, ipv6, mtu, hostname)
