# SPDX-License-Identifier: MIT
"""Devices as text: what `vdesktop ctl NAME plug` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from vdesktop_core.errors import ConfigError

#: Words of the command line for device types.
_ALIASES = {"disk": "blk"}


def parse_device(spec: str) -> dict[str, Any]:
    """Return the keys of a ``[[device]]`` table that a text means.

    The text is ``disk:FILE[,ro][,KEY=VALUE…]``, ``net:…`` or ``console:…`` with what the options of
    ``vdesktop run`` take, or ``TYPE[,KEY=VALUE…]``. Files are made absolute: the machine may run elsewhere.

    Raises:
        ConfigError: it means nothing.
    """
    head, _, rest = spec.partition(",")
    kind, colon, _ = head.partition(":")
    kind = _ALIASES.get(kind, kind)
    if not kind or not kind.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(f"device {spec!r}: use disk:FILE, net:user, console:SPEC or TYPE[,KEY=VALUE…]")
    if not colon:
        return {"type": kind} | _pairs(spec, rest)
    table = _with_argument(spec, kind, spec.partition(":")[2])
    if kind == "blk":
        table["path"] = str(Path(table["path"]).absolute())
    return table


def _with_argument(spec: str, kind: str, argument: str) -> dict[str, Any]:
    from vdesktop_core.devices.blk import parse_disk
    from vdesktop_core.devices.console import parse_console
    from vdesktop_core.devices.net import parse_net

    parsers = {"blk": parse_disk, "console": parse_console, "net": parse_net}
    if kind not in parsers or not argument:
        raise ConfigError(
            f"device {spec!r}: only disk:FILE, net:… and console:… have something after a colon"
        )
    config = parsers[kind](argument)
    if config is None:
        raise ConfigError(f"device {spec!r}: a network that is none needs no card")
    table: dict[str, Any] = msgspec.to_builtins(config)
    return table


def _pairs(spec: str, text: str) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not key or key == "type" or key in table:
            raise ConfigError(f"device {spec!r}: {pair!r} is not KEY=VALUE with a key of its own")
        table[key] = _value(value)
    return table


def _value(text: str) -> bool | int | str:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdecimal() and text.isascii() else text
