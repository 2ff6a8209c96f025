# SPDX-License-Identifier: MIT
"""The input devices' configuration. Light: it is imported whether a machine has one or not."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from vdesktop_core._native import lib
from vdesktop_core.devices.base import DeviceConfig, DeviceContext, DeviceType

if TYPE_CHECKING:
    from vdesktop_core.devices.input.device import InputDevice


class Kind(enum.StrEnum):
    """Kinds of input devices."""

    KEYBOARD = "keyboard"
    MOUSE = "mouse"
    TABLET = "tablet"  #: an absolute pointer
    TOUCH = "touch"


class InputConfig(DeviceConfig, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """``[[device]] type = "input"``.

    Attributes:
        kind: keyboard, mouse (relative), tablet (absolute), or touch (ten fingers).
    """

    type: str = "input"
    kind: Kind


def _create(config: InputConfig, context: DeviceContext) -> InputDevice:
    from vdesktop_core.devices.input.device import InputDevice

    return InputDevice(config, context)


DEVICE_TYPE = DeviceType(
    name="input",
    summary="a keyboard, mouse, tablet or touch screen",
    virtio_id=lib.VD_INPUT_ID,
    config=InputConfig,
    create=_create,
)
