# SPDX-License-Identifier: MIT
"""What ``--display web:…`` can be told."""

from __future__ import annotations

import ipaddress
import re
import secrets
from pathlib import Path

import msgspec

from vdesktop_core.errors import ConfigError

#: 144 bits: an address that nobody guesses.
_TOKEN_BYTES = 18
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")
USAGE = "write web[:PORT][,listen=ADDRESS][,host=NAME][,token-file=FILE]"


class Options(msgspec.Struct, frozen=True):
    """Where the desktop is to be had, and by whom.

    Attributes:
        port: TCP port; 0 takes a free one.
        listen: IPv4 or IPv6 address.
        token: the first part of every path; whoever knows it has the desktop.
        hosts: names, beside addresses and ``localhost``, under which browsers may ask for the page.
    """

    port: int
    listen: str
    token: str
    hosts: frozenset[str]


def _read_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"display web: cannot read the token file {path}: {error}") from error
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"display web: the token in {path} has to be 16 to 128 letters, digits, '-' or '_'")
    return token


def parse_options(argument: str) -> Options:
    """Make sense of what follows ``web:``.

    Raises:
        ConfigError: it makes none.
    """
    first, *pairs = argument.split(",")
    if first and (not first.isdecimal() or int(first) > 0xFFFF):
        raise ConfigError(f"display web: {first!r} is not a port: {USAGE}")
    listen, token, hosts = "127.0.0.1", "", set()
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key == "listen":
            try:
                listen = str(ipaddress.ip_address(value))
            except ValueError as error:
                raise ConfigError(f"display web: listen={value}: give an IP address") from error
        elif key == "host" and _HOST.fullmatch(value):
            hosts.add(value.lower())
        elif key == "token-file" and value:
            token = _read_token(Path(value))
        else:
            raise ConfigError(f"display web: {pair!r}: {USAGE}")
    return Options(int(first or 0), listen, token or secrets.token_urlsafe(_TOKEN_BYTES), frozenset(hosts))
