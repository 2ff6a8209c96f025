# SPDX-License-Identifier: MIT
"""What each kind of input device is to the guest, as data. Names: ``<linux/input-event-codes.h>``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vdesktop_core.devices.input.config import Kind
from vdesktop_core.display.input import ABSOLUTE_MAX, TOUCH_SLOTS, Button
from vdesktop_core.display.keys import EVDEV_BY_CODE

EV_SYN, EV_KEY, EV_REL, EV_ABS, EV_LED, EV_REP = 0x00, 0x01, 0x02, 0x03, 0x11, 0x14
REL_X, REL_Y, REL_HWHEEL, REL_WHEEL, REL_WHEEL_HI_RES, REL_HWHEEL_HI_RES = 0, 1, 6, 8, 11, 12
ABS_X, ABS_Y, ABS_MT_SLOT, ABS_MT_POSITION_X, ABS_MT_POSITION_Y, ABS_MT_TRACKING_ID = 0, 1, 47, 53, 54, 57
LED_NUML, LED_CAPSL, LED_SCROLLL = 0, 1, 2
BTN_TOUCH = 0x14A
INPUT_PROP_DIRECT = 1
TRACKING_ID_MAX = 65535

_BUTTONS = frozenset(Button)
_WHEELS = frozenset({REL_WHEEL, REL_HWHEEL, REL_WHEEL_HI_RES, REL_HWHEEL_HI_RES})


@dataclass(frozen=True, slots=True)
class Shape:
    """What a kind has.

    Attributes:
        title: its name in the guest.
        product: tells kinds apart in the device's identity.
        codes: event codes by type; an empty set: the type has no codes.
        axes: largest value by absolute axis; they begin at 0.
        properties: INPUT_PROP_* bits.
    """

    title: str
    product: int
    codes: dict[int, frozenset[int]]
    axes: dict[int, int]
    properties: int = 0


SHAPES: Final = {
    Kind.KEYBOARD: Shape(
        "virtio-desktop keyboard",
        1,
        {
            EV_KEY: frozenset(EVDEV_BY_CODE.values()),
            EV_LED: frozenset({LED_NUML, LED_CAPSL, LED_SCROLLL}),
            EV_REP: frozenset(),  # the guest repeats held keys itself
        },
        {},
    ),
    Kind.MOUSE: Shape("virtio-desktop mouse", 2, {EV_KEY: _BUTTONS, EV_REL: _WHEELS | {REL_X, REL_Y}}, {}),
    Kind.TABLET: Shape(
        "virtio-desktop tablet",
        3,
        {EV_KEY: _BUTTONS, EV_REL: _WHEELS, EV_ABS: frozenset({ABS_X, ABS_Y})},
        {ABS_X: ABSOLUTE_MAX, ABS_Y: ABSOLUTE_MAX},
    ),
    # Multi-touch protocol B. Linux's driver makes the slots only, so BTN_TOUCH and
    # ABS_X/Y, which older programs read, are the device's to send.
    Kind.TOUCH: Shape(
        "virtio-desktop touch screen",
        4,
        {
            EV_KEY: frozenset({BTN_TOUCH}),
            EV_ABS: frozenset(
                {ABS_X, ABS_Y, ABS_MT_SLOT, ABS_MT_POSITION_X, ABS_MT_POSITION_Y, ABS_MT_TRACKING_ID}
            ),
        },
        {
            ABS_X: ABSOLUTE_MAX,
            ABS_Y: ABSOLUTE_MAX,
            ABS_MT_SLOT: TOUCH_SLOTS - 1,
            ABS_MT_POSITION_X: ABSOLUTE_MAX,
            ABS_MT_POSITION_Y: ABSOLUTE_MAX,
            ABS_MT_TRACKING_ID: TRACKING_ID_MAX,
        },
        properties=1 << INPUT_PROP_DIRECT,
    ),
}


def bitmap(codes: frozenset[int]) -> bytes:
    """Return codes as bits, lowest first; one zero byte where there are none."""
    bits = sum(1 << code for code in codes)
    return bits.to_bytes(max(1, (bits.bit_length() + 7) // 8), "little")
