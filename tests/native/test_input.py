# SPDX-License-Identifier: MIT
"""virtio-input (virtio 1.4 §5.8)."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import pytest
from gpu_rig import Slot

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.input.config import InputConfig, Kind
from vdesktop_core.devices.input.device import InputDevice
from vdesktop_core.display.input import (
    Button,
    Key,
    Led,
    PointerAbsolute,
    PointerButton,
    PointerMotion,
    Touch,
    TouchPhase,
    Wheel,
)
from vdesktop_core.testing import Buffer, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vdesktop_core.display.input import InputEvent

EVENTS, STATUS = 0, 1
NAME, SERIAL, DEVIDS, PROPERTIES, BITS, ABS = 1, 2, 3, 0x10, 0x11, 0x12
SYN, KEY, REL, ABSOLUTE, LED, REP = 0, 1, 2, 3, 0x11, 0x14
KEY_A, KEY_B = 30, 48


class Hands(Slot):
    """An input device, and the driver's side of its queues."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.input = InputDevice(InputConfig(kind=kind), self.context)
        self.attach(self.input)
        self._places: dict[int, int] = {}

    def start(self, size: int = 64, **options: int) -> None:
        self._places.clear()
        self.driver.start(sizes={EVENTS: size, STATUS: 64})
        self.give(options.get("buffers", size))

    def give(self, count: int, size: int = 8) -> None:
        for _ in range(count):
            at = self.arena.allocate(size)
            self._places[self.driver.queues[EVENTS].add([Buffer(at, size, write=True)])] = at
        self.driver.kick(EVENTS)

    def events(self, count: int) -> list[tuple[int, int, int]]:
        """Wait for events, and give their buffers back."""
        found = []
        for head, length in self.driver.wait_used(EVENTS, count):
            assert length == 8
            at = self._places.pop(head)
            found.append(struct.unpack("<HHi", self.memory.read(at, 8)))
            self._places[self.driver.queues[EVENTS].add([Buffer(at, 8, write=True)])] = at
        self.driver.kick(EVENTS)
        return found

    def frame(self, *events: InputEvent) -> list[tuple[int, int, int]]:
        """Send a frame and return what arrives up to its SYN_REPORT."""
        assert self.input.send(events)
        found = []
        while not found or found[-1] != (SYN, 0, 0):
            found += self.events(1)
        return found[:-1]

    def quiet(self) -> bool:
        """Whether nothing arrives: the I/O thread did all it was asked."""
        self.settle()
        return not list(self.driver.queues[EVENTS].take_used())

    def settle(self) -> None:
        loop = ffi.cast("struct vd_loop *", self.thread.native)
        nothing = ffi.callback("void(void *)", lambda _: None)
        for _ in range(3):
            lib.vd_loop_call(loop, nothing, ffi.NULL)

    def shown(self, select: int, subsel: int = 0) -> bytes:
        self.write(0x100, 1, select)
        self.write(0x101, 1, subsel)
        size = self.read(0x102, 1)
        return bytes(self.read(0x108 + i, 1) for i in range(size))

    def has(self, kind: int) -> set[int]:
        bits = int.from_bytes(self.shown(BITS, kind), "little")
        return {code for code in range(bits.bit_length()) if bits >> code & 1}


@pytest.fixture
def hands() -> Iterator[Callable[..., Hands]]:
    """Makes input devices."""
    made: list[Hands] = []

    def new(kind: Kind, *, start: bool = True) -> Hands:
        made.append(Hands(kind))
        if start:
            made[-1].start()
        return made[-1]

    yield new
    for each in made:
        each.free()


def test_config_of_a_keyboard_has_keys_lamps_and_repeat(hands: Callable[..., Hands]) -> None:
    keyboard = hands(Kind.KEYBOARD)
    assert keyboard.shown(NAME) == b"virtio-desktop keyboard"
    assert keyboard.shown(SERIAL) == b"device"
    assert struct.unpack("<4H", keyboard.shown(DEVIDS)) == (6, 0, 1, 1)
    assert {1, KEY_A, 57, 125, 194} <= keyboard.has(KEY)
    assert keyboard.has(LED) == {0, 1, 2}
    assert len(keyboard.shown(BITS, REP)) == 1
    assert keyboard.shown(BITS, REL) == keyboard.shown(BITS, ABSOLUTE) == keyboard.shown(PROPERTIES) == b""


@pytest.mark.parametrize(
    ("kind", "rel", "absolute", "properties"),
    [
        (Kind.MOUSE, {0, 1, 6, 8, 11, 12}, set(), b""),
        (Kind.TABLET, {6, 8, 11, 12}, {0, 1}, b""),
        (Kind.TOUCH, set(), {0, 1, 0x2F, 0x35, 0x36, 0x39}, b"\2\0\0\0"),
    ],
)
def test_config_of_pointers_says_what_they_have(
    hands: Callable[..., Hands], kind: Kind, rel: set[int], absolute: set[int], properties: bytes
) -> None:
    device = hands(kind)
    assert (device.has(REL), device.has(ABSOLUTE), device.shown(PROPERTIES)) == (rel, absolute, properties)
    assert device.has(KEY) == ({0x14A} if kind is Kind.TOUCH else set(range(0x110, 0x115)))
    for axis in absolute:
        least, most, *rest = struct.unpack("<iiiii", device.shown(ABS, axis))
        expected = {0x2F: 9, 0x39: 65535}.get(axis, 32767)
        assert (least, most, rest) == (0, expected, [0, 0, 0])


def test_config_selection_unknown_has_size_zero(hands: Callable[..., Hands]) -> None:
    device = hands(Kind.TABLET)
    for select, subsel in [
        (0, 0),
        (NAME, 1),
        (4, 0),
        (BITS, 0x1F),
        (BITS, 0xFF),
        (ABS, 2),
        (ABS, 0xFF),
        (0xFF, 0),
    ]:
        assert device.shown(select, subsel) == b"", (select, subsel)
    device.write(0x102, 1, 0x55)
    device.write(0x108, 4, 0x55555555)
    assert device.shown(NAME) == b"virtio-desktop tablet"


def test_keys_reach_the_driver_with_their_frame(hands: Callable[..., Hands]) -> None:
    keyboard = hands(Kind.KEYBOARD)
    assert keyboard.frame(Key(KEY_A, down=True), Key(KEY_B, down=True)) == [(KEY, KEY_A, 1), (KEY, KEY_B, 1)]
    assert keyboard.frame(Key(KEY_A, down=False)) == [(KEY, KEY_A, 0)]


def test_key_unknown_is_dropped_and_other_kinds_refused(hands: Callable[..., Hands]) -> None:
    keyboard = hands(Kind.KEYBOARD)
    assert keyboard.input.send([Key(0xFFFF, down=True), Key(-1, down=True)])
    with pytest.raises(TypeError, match="keyboard takes no Wheel"):
        keyboard.input.send([Wheel(0, 1)])
    assert keyboard.quiet()


def test_tablet_positions_are_clamped_and_buttons_are_five(hands: Callable[..., Hands]) -> None:
    tablet = hands(Kind.TABLET)
    assert tablet.frame(PointerAbsolute(-5, 99999)) == [(ABSOLUTE, 0, 0), (ABSOLUTE, 1, 32767)]
    for button in Button:
        assert tablet.frame(PointerButton(button, down=True)) == [(KEY, button, 1)]


def test_wheel_counts_notches_and_fine_steps(hands: Callable[..., Hands]) -> None:
    tablet = hands(Kind.TABLET)
    assert tablet.frame(Wheel(0, 120)) == [(REL, 8, -1), (REL, 11, -120)]
    assert tablet.frame(Wheel(0, -60)) == [(REL, 11, 60)]
    assert tablet.frame(Wheel(0, -60)) == [(REL, 8, 1), (REL, 11, 60)]
    assert tablet.frame(Wheel(240, 0)) == [(REL, 6, 2), (REL, 12, 240)]


def test_touch_of_two_fingers_is_protocol_b_with_a_single_touch_beside(hands: Callable[..., Hands]) -> None:
    touch = hands(Kind.TOUCH)
    slot, x, y, tracking = 0x2F, 0x35, 0x36, 0x39
    begin = [Touch(TouchPhase.BEGIN, 0, 10, 20), Touch(TouchPhase.BEGIN, 3, 30, 40)]
    assert touch.frame(*begin) == [
        *[(ABSOLUTE, code, value) for code, value in ((slot, 0), (tracking, 0), (x, 10), (y, 20))],
        *[(ABSOLUTE, code, value) for code, value in ((slot, 3), (tracking, 1), (x, 30), (y, 40))],
        (KEY, 0x14A, 1),
        (ABSOLUTE, 0, 10),
        (ABSOLUTE, 1, 20),
    ]
    end = [(ABSOLUTE, slot, 0), (ABSOLUTE, tracking, -1)]
    assert touch.frame(Touch(TouchPhase.END, 0)) == [*end, (ABSOLUTE, 0, 30), (ABSOLUTE, 1, 40)]
    assert touch.frame(Touch(TouchPhase.END, 3))[-1] == (KEY, 0x14A, 0)
    assert touch.input.send([Touch(TouchPhase.UPDATE, 3, 1, 1), Touch(TouchPhase.END, 3)])
    assert touch.quiet()


def test_touch_of_ten_fingers_is_one_frame(hands: Callable[..., Hands]) -> None:
    touch = hands(Kind.TOUCH)
    assert len(touch.frame(*[Touch(TouchPhase.BEGIN, slot, slot, slot) for slot in range(10)])) == 43


def test_frame_waits_until_all_of_it_fits(hands: Callable[..., Hands]) -> None:
    keyboard = hands(Kind.KEYBOARD, start=False)
    keyboard.start(buffers=2)
    assert keyboard.input.send([Key(KEY_A, down=True), Key(KEY_B, down=True)])
    assert keyboard.quiet()
    keyboard.give(1)
    assert keyboard.events(3) == [(KEY, KEY_A, 1), (KEY, KEY_B, 1), (SYN, 0, 0)]


def test_frame_longer_than_the_drivers_queue_is_dropped_not_halved(hands: Callable[..., Hands]) -> None:
    touch = hands(Kind.TOUCH, start=False)
    touch.start(size=16)
    assert touch.input.send([Touch(TouchPhase.BEGIN, slot, 1, 1) for slot in range(10)])
    assert wait_until(lambda: touch.input.counters()["dropped"] == 1, 10)
    touch.input.on_event(lib.VD_EVENT_RESET, 0, 0)
    assert touch.frame(Touch(TouchPhase.BEGIN, 0, 5, 6))[0] == (ABSOLUTE, 0x2F, 0)


def test_motion_that_nobody_saw_is_merged(hands: Callable[..., Hands]) -> None:
    mouse = hands(Kind.MOUSE, start=False)
    mouse.start(buffers=0)
    for _ in range(10_000):
        assert mouse.input.send([PointerMotion(1, -2)])
    assert mouse.input.counters()["merged"] >= 9_000
    mouse.give(64)
    found = mouse.events(3)
    assert found == [(REL, 0, 10_000), (REL, 1, -20_000), (SYN, 0, 0)]


def test_queue_full_of_presses_still_takes_the_releases(hands: Callable[..., Hands]) -> None:
    keyboard = hands(Kind.KEYBOARD, start=False)
    keyboard.start(buffers=0)
    pressed = 0
    while keyboard.input.send([Key(KEY_A, down=True)]):
        pressed += 1
    assert pressed == lib.VD_INPUT_WAITING_MAX // 4
    assert all(keyboard.input.send([Key(KEY_A, down=False)]) for _ in range(pressed))
    assert not keyboard.input.send([Key(KEY_A, down=False)])


def test_events_without_a_driver_are_dropped(hands: Callable[..., Hands]) -> None:
    keyboard = hands(Kind.KEYBOARD, start=False)
    assert not keyboard.input.send([Key(KEY_A, down=True)])
    keyboard.start(buffers=0)
    assert keyboard.input.send([Key(KEY_A, down=True)])
    keyboard.driver.reset()
    keyboard.start()
    assert keyboard.quiet()
    assert keyboard.frame(Key(KEY_B, down=True)) == [(KEY, KEY_B, 1)]


async def test_leds_of_the_guest_are_reported(hands: Callable[..., Hands]) -> None:
    keyboard = hands(Kind.KEYBOARD)
    heard: list[Led] = []
    stop = keyboard.input.on_leds(heard.append)
    keyboard.driver.request(STATUS, [struct.pack("<HHi", LED, 1, 1)])
    async with asyncio.timeout(60):
        while len(heard) < 2:
            await asyncio.sleep(0.001)
    assert heard == [Led(0), Led.CAPS_LOCK]
    stop()
    keyboard.driver.request(STATUS, [struct.pack("<HHi", LED, 1, 0)])
    assert keyboard.input.leds == Led(0)
    for code in (31, 32, 0xFFFF):
        keyboard.driver.request(STATUS, [struct.pack("<HHi", LED, code, 1)])
    keyboard.driver.request(STATUS, [struct.pack("<HHi", 0x7777, 1, 1)])
    assert keyboard.input.leds == Led(0)


def test_status_truncated_needs_reset_and_reset_heals(hands: Callable[..., Hands]) -> None:
    keyboard = hands(Kind.KEYBOARD)
    at = keyboard.arena.allocate(64)
    keyboard.driver.queues[STATUS].add([Buffer(at, 7)])
    keyboard.driver.kick(STATUS)
    assert keyboard.needs_reset()
    keyboard.start()
    assert keyboard.frame(Key(KEY_A, down=True)) == [(KEY, KEY_A, 1)]


@pytest.mark.parametrize(("out", "into"), [(8, 0), (8, 8), (0, 7)])
def test_event_buffer_of_the_wrong_shape_needs_reset(
    hands: Callable[..., Hands], out: int, into: int
) -> None:
    keyboard = hands(Kind.KEYBOARD, start=False)
    keyboard.start(buffers=0)
    at = keyboard.arena.allocate(64)
    parts = [Buffer(at, out)] if out else []
    parts += [Buffer(at + 32, into, write=True)] if into else []
    keyboard.driver.queues[EVENTS].add(parts)
    keyboard.driver.kick(EVENTS)
    keyboard.input.send([Key(KEY_A, down=True)])
    assert keyboard.needs_reset()
    keyboard.start()
    assert keyboard.frame(Key(KEY_A, down=True)) == [(KEY, KEY_A, 1)]


def test_event_buffer_in_eight_pieces_gets_its_event(hands: Callable[..., Hands]) -> None:
    keyboard = hands(Kind.KEYBOARD, start=False)
    keyboard.start(buffers=0)
    at = keyboard.arena.allocate(256)
    for event in range(2):
        pieces = [Buffer(at + event * 128 + 16 * i, 1, write=True) for i in range(8)]
        keyboard.driver.queues[EVENTS].add(pieces)
    keyboard.driver.kick(EVENTS)
    assert keyboard.input.send([Key(KEY_A, down=True)])
    keyboard.driver.wait_used(EVENTS, 2)
    data = b"".join(keyboard.memory.read(at + 16 * i, 1) for i in range(8))
    assert struct.unpack("<HHi", data) == (KEY, KEY_A, 1)


def test_reset_with_a_frame_half_collected_never_writes_to_old_buffers(hands: Callable[..., Hands]) -> None:
    keyboard = hands(Kind.KEYBOARD, start=False)
    keyboard.start(buffers=1)
    (old,) = keyboard._places.values()
    assert keyboard.input.send([Key(KEY_A, down=True)])
    keyboard.settle()
    keyboard.driver.reset()
    keyboard.start()
    assert keyboard.frame(Key(KEY_B, down=True)) == [(KEY, KEY_B, 1)]
    assert keyboard.memory.read(old, 8) == bytes(8)
