# SPDX-License-Identifier: MIT
"""virtio-gpu, 2D (virtio 1.4 §5.7), and what viewers see of it."""

from __future__ import annotations

import os
import select
import struct
from typing import TYPE_CHECKING

import pytest
from gpu_rig import (
    ALL,
    ASSIGN_UUID,
    BAD_PARAMETER,
    BAD_RESOURCE,
    BAD_SCANOUT,
    BGRA,
    FENCE,
    FREE,
    GET_CAPSET_INFO,
    GET_DISPLAY_INFO,
    GET_EDID,
    MOVE_CURSOR,
    OK,
    OK_DISPLAY_INFO,
    OK_EDID,
    OK_UUID,
    UNSPEC,
    UPDATE_CURSOR,
    Gpu,
    picture,
)

from vdesktop_core.display.screen import News, PixelFormat, Rect, read_rgb
from vdesktop_core.testing import Interrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.display.native import NativeSurface, NativeViewing


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    gpu = Gpu(screens=3)
    gpu.start()
    yield gpu
    gpu.free()


@pytest.fixture
def viewing(gpu: Gpu) -> NativeViewing:
    viewing = gpu.gpu.screen.scanouts[0].view()
    viewing.take()
    return viewing


def surface(viewing: NativeViewing) -> NativeSurface:
    found = viewing.take().surface
    assert found is not None
    return found


def pixels(shown: NativeSurface) -> bytes:
    count = shown.width * 4
    return b"".join(
        bytes(shown.view[y * shown.stride : y * shown.stride + count]) for y in range(shown.height)
    )


def awake(viewing: NativeViewing) -> bool:
    return bool(select.select([viewing], [], [], 0)[0])


def display_info(gpu: Gpu) -> list[tuple[int, ...]]:
    kind, body = gpu.command(GET_DISPLAY_INFO)
    assert kind == OK_DISPLAY_INFO
    return list(struct.iter_unpack("<6I", body))[:3]


def edid(gpu: Gpu, scanout: int = 0) -> bytes:
    kind, body = gpu.command(GET_EDID, struct.pack("<II", scanout, 0))
    assert kind == OK_EDID
    (size,) = struct.unpack_from("<I", body)
    return body[8 : 8 + size]


def preferred(block: bytes) -> tuple[int, int]:
    timing = block[54:72]
    return timing[2] | (timing[4] & 0xF0) << 4, timing[5] | (timing[7] & 0xF0) << 4


def test_config_has_scanouts_and_no_capsets(gpu: Gpu) -> None:
    assert struct.unpack("<4I", gpu.driver.config(0, 16)) == (0, 0, 3, 0)
    assert gpu.ask(GET_CAPSET_INFO, bytes(8)) == UNSPEC


def test_display_info_has_one_monitor_of_the_configured_size(gpu: Gpu) -> None:
    assert display_info(gpu) == [(0, 0, 1024, 768, 1, 0), (1024, 0, 0, 0, 0, 0), (1024, 0, 0, 0, 0, 0)]


@pytest.mark.parametrize(
    "size", [(64, 64), (1024, 768), (1366, 769), (1920, 1080), (3840, 2160), (4095, 4095)]
)
def test_edid_is_a_valid_block_that_prefers_the_size_asked_for(gpu: Gpu, size: tuple[int, int]) -> None:
    gpu.gpu.screen.scanouts[0].request_size(*size)
    block = edid(gpu)
    assert block[:8] == b"\0\xff\xff\xff\xff\xff\xff\0"
    assert (len(block), sum(block) % 256) == (128, 0)
    assert preferred(block) == size
    clock = struct.unpack_from("<H", block, 54)[0] * 10_000
    lines = (size[0] + 160) * (size[1] + 35)
    assert 29 < clock / lines < 61


def test_edid_of_a_scanout_that_is_not_there_is_an_error(gpu: Gpu) -> None:
    assert gpu.ask(GET_EDID, struct.pack("<II", 3, 0)) == BAD_SCANOUT


def test_commands_of_features_not_taken_are_refused(gpu: Gpu) -> None:
    gpu.start(())
    assert gpu.create(1, 8, 8) == OK
    assert gpu.ask(GET_EDID, bytes(8)) == UNSPEC
    assert gpu.ask(ASSIGN_UUID, struct.pack("<II", 1, 0)) == UNSPEC
    assert gpu.create_blob(2, 4096, [(FREE, 4096)]) == UNSPEC


def test_scanout_shows_what_was_transferred(gpu: Gpu, viewing: NativeViewing) -> None:
    data = picture(67, 33)
    gpu.shown(1, 67, 33, data)
    update = viewing.take()
    assert update.news == News.SURFACE | News.DAMAGE
    assert update.damage == (Rect(0, 0, 67, 33),)
    shown = update.surface
    assert shown is not None
    assert (shown.width, shown.height, shown.format) == (67, 33, PixelFormat.XRGB8888)
    assert pixels(shown) == data
    # The same pixels for another process, by the descriptor.
    assert os.pread(shown.fd, len(data), shown.offset) == data
    shown.close()


def test_transfer_takes_the_rectangle_and_nothing_else(gpu: Gpu, viewing: NativeViewing) -> None:
    gpu.shown(1, 32, 16, bytes(32 * 16 * 4))
    new = picture(32, 16)
    gpu.memory.write(FREE, new)
    # As Linux has it: the offset is of the rectangle's first pixel.
    assert gpu.transfer(1, (5, 3, 9, 7), (3 * 32 + 5) * 4) == OK
    shown = surface(viewing)
    for y in range(16):
        for x in range(32):
            at = (y * 32 + x) * 4
            inside = 5 <= x < 14 and 3 <= y < 10
            assert shown.view[at : at + 4] == (new[at : at + 4] if inside else bytes(4)), (x, y)
    shown.close()


def test_backing_in_odd_pieces_is_one_picture(gpu: Gpu, viewing: NativeViewing) -> None:
    data = picture(50, 40)
    sizes, entries, at = [1, 4097, 3, 777, 2000], [], 0
    sizes.append(len(data) - sum(sizes))
    for number, size in enumerate(sizes):
        place = FREE + (len(sizes) - number) * 0x4001
        gpu.memory.write(place, data[at : at + size])
        entries.append((place, size))
        at += size
    assert gpu.create(1, 50, 40) == OK
    assert gpu.attach_backing(1, entries) == OK
    assert gpu.transfer(1, (0, 0, 50, 20)) == OK
    assert gpu.transfer(1, (0, 20, 50, 20), 20 * 50 * 4) == OK
    assert gpu.set_scanout(1, (0, 0, 50, 40)) == OK
    shown = surface(viewing)
    assert pixels(shown) == data
    shown.close()


def test_scanout_of_a_part_of_a_resource_shows_that_part(gpu: Gpu, viewing: NativeViewing) -> None:
    data = picture(64, 48)
    gpu.shown(1, 64, 48, data)
    assert gpu.set_scanout(1, (10, 8, 20, 16)) == OK
    shown = surface(viewing)
    rows = [data[((8 + y) * 64 + 10) * 4 :][: 20 * 4] for y in range(16)]
    assert pixels(shown) == b"".join(rows)
    shown.close()
    assert gpu.flush(1, (0, 0, 12, 9)) == OK
    assert viewing.take().damage == (Rect(0, 0, 2, 1),)
    assert gpu.flush(1, (40, 40, 4, 4)) == OK
    assert viewing.take().news == News(0)


def test_flush_wakes_a_viewer_once_and_says_what_was_flushed(gpu: Gpu, viewing: NativeViewing) -> None:
    gpu.shown(1, 640, 480)
    viewing.take()
    assert not awake(viewing)
    for rect in ((0, 0, 10, 10), (300, 200, 5, 5), (2, 2, 3, 3)):
        assert gpu.flush(1, rect) == OK
    assert awake(viewing)
    update = viewing.take()
    assert update.news == News.DAMAGE
    assert set(update.damage) == {Rect(0, 0, 10, 10), Rect(300, 200, 5, 5)}
    assert not awake(viewing)


def test_damage_of_a_viewer_that_does_not_look_is_bounded_and_covers_all(
    gpu: Gpu, viewing: NativeViewing
) -> None:
    gpu.shown(1, 640, 480)
    viewing.take()
    spots = [(x * 60 + 3, y * 60 + 5) for x in range(10) for y in range(7)]
    for x, y in spots:
        assert gpu.flush(1, (x, y, 4, 4)) == OK
    damage = viewing.take().damage
    assert len(damage) <= 16
    for x, y in spots:
        assert any(
            r.x <= x and x + 4 <= r.x + r.width and r.y <= y and y + 4 <= r.y + r.height for r in damage
        )


def test_viewers_hear_independently_and_late_ones_see_all(gpu: Gpu, viewing: NativeViewing) -> None:
    gpu.shown(1, 64, 64, picture(64, 64))
    viewing.take()
    late = gpu.gpu.screen.scanouts[0].view()
    assert late.take().news == News.SURFACE | News.DAMAGE | News.CURSOR
    late.close()
    gpu.flush(1, (1, 1, 2, 2))
    assert viewing.take().damage == (Rect(1, 1, 2, 2),)


def test_surface_outlives_its_resource_for_who_holds_it(gpu: Gpu, viewing: NativeViewing) -> None:
    data = picture(64, 64)
    gpu.shown(1, 64, 64, data)
    held = surface(viewing)
    assert gpu.unref(1) == OK
    assert viewing.take().surface is None
    assert pixels(held) == data
    held.close()
    assert gpu.counter("memory_bytes") == 0


def test_reset_blanks_the_screen_and_frees_everything(gpu: Gpu, viewing: NativeViewing) -> None:
    gpu.shown(1, 64, 64)
    viewing.take()
    gpu.driver.reset()
    update = viewing.take()
    assert (update.news & News.SURFACE, update.surface) == (News.SURFACE, None)
    assert gpu.counter("memory_bytes") == 0
    gpu.start()
    assert gpu.create(1, 8, 8) == OK


def test_scanout_disabled_shows_nothing(gpu: Gpu, viewing: NativeViewing) -> None:
    gpu.shown(1, 64, 64)
    assert gpu.set_scanout(0, (0, 0, 0, 0)) == OK
    assert viewing.take().surface is None


def test_second_scanout_is_unplugged_until_a_size_is_asked_for(gpu: Gpu) -> None:
    second = gpu.gpu.screen.scanouts[1]
    second.request_size(800, 600)
    assert display_info(gpu)[1] == (1024, 0, 800, 600, 1, 0)
    viewing = second.view()
    gpu.shown(1, 64, 64)
    assert viewing.take().surface is None
    assert gpu.set_scanout(1, (0, 0, 64, 64), scanout=1) == OK
    update = viewing.take()
    assert update.surface is not None
    update.surface.close()
    second.request_size(0, 0)
    assert display_info(gpu)[1][4] == 0


def test_size_request_raises_the_display_event_once(gpu: Gpu) -> None:
    gpu.driver.take_interrupt()
    screen = gpu.gpu.screen.scanouts[0]
    screen.request_size(1280, 800)
    assert gpu.driver.take_interrupt() & Interrupt.CONFIG
    assert gpu.driver.config(0, 4) == b"\1\0\0\0"
    gpu.write(0x104, 4, 1)
    assert gpu.driver.config(0, 8) == bytes(8)
    assert not gpu.driver.take_interrupt() & Interrupt.CONFIG
    screen.request_size(1280, 800)
    assert not gpu.driver.take_interrupt() & Interrupt.CONFIG
    assert display_info(gpu)[0][2:5] == (1280, 800, 1)


def test_size_request_while_one_is_pending_is_not_lost(gpu: Gpu) -> None:
    screen = gpu.gpu.screen.scanouts[0]
    screen.request_size(1280, 800)
    display_info(gpu)
    screen.request_size(1400, 900)
    gpu.write(0x104, 4, 1)
    assert gpu.driver.config(0, 4) == b"\1\0\0\0"
    gpu.write(0x104, 4, 1)
    assert gpu.driver.config(0, 4) == bytes(4)


def test_fence_is_echoed_with_the_reply(gpu: Gpu) -> None:
    command = struct.pack("<IIQIB3x", GET_DISPLAY_INFO, FENCE, 0x1234_5678_9ABC, 77, 0)
    reply = gpu.raw(command)
    assert struct.unpack_from("<IIQI", reply) == (OK_DISPLAY_INFO, FENCE, 0x1234_5678_9ABC, 77)
    reply = gpu.raw(struct.pack("<IIQIB3x", 0xDEAD, FENCE, 5, 0, 0))
    assert struct.unpack_from("<IIQ", reply) == (UNSPEC, FENCE, 5)


def test_uuid_stays_and_differs_between_resources(gpu: Gpu) -> None:
    for resource in (1, 2):
        assert gpu.create(resource, 8, 8) == OK
    found = [gpu.command(ASSIGN_UUID, struct.pack("<II", resource, 0)) for resource in (1, 1, 2)]
    assert [kind for kind, _ in found] == [OK_UUID] * 3
    assert found[0][1] == found[1][1] != found[2][1]
    assert gpu.ask(ASSIGN_UUID, struct.pack("<II", 3, 0)) == BAD_RESOURCE


def test_cursor_has_its_picture_and_moves(gpu: Gpu, viewing: NativeViewing) -> None:
    data = picture(64, 64, seed=3)
    gpu.memory.write(FREE, data)
    assert gpu.create(9, 64, 64, BGRA) == OK
    assert gpu.attach_backing(9, [(FREE, len(data))]) == OK
    assert gpu.transfer(9, (0, 0, 64, 64)) == OK
    gpu.cursor(UPDATE_CURSOR, 9, (-5, 40), (7, 8))
    assert viewing.take().news == News.CURSOR
    cursor = viewing.cursor()
    assert (cursor.x, cursor.y, cursor.hot_x, cursor.hot_y, cursor.pixels) == (-5, 40, 7, 8, data)
    gpu.cursor(MOVE_CURSOR, 9, (100, 200))
    assert viewing.take().news == News.CURSOR_MOVED
    assert (viewing.cursor().x, viewing.cursor().y) == (100, 200)
    gpu.cursor(UPDATE_CURSOR, 0)
    assert viewing.take().news == News.CURSOR
    assert viewing.cursor().pixels == b""


def test_blob_scanout_shows_guest_memory_as_of_the_flush(gpu: Gpu, viewing: NativeViewing) -> None:
    stride, offset = 40 * 4 + 16, 64
    size = offset + stride * 24
    half = size // 2 + 3
    entries = [(FREE + 0x8000, half), (FREE, size - half)]

    def draw(data: bytes) -> None:
        gpu.memory.write(FREE + 0x8000, data[:half])
        gpu.memory.write(FREE, data[half:])

    def expected(data: bytes) -> bytes:
        return b"".join(data[offset + y * stride :][: 40 * 4] for y in range(24))

    first, second = os.urandom(size), os.urandom(size)
    draw(first)
    assert gpu.create_blob(1, size, entries) == OK
    assert gpu.set_scanout_blob(1, (0, 0, 40, 24), (40, 24), stride=stride, offset=offset) == OK
    shown = surface(viewing)
    assert pixels(shown) == expected(first)
    draw(second)
    assert pixels(shown) == expected(first)
    assert gpu.flush(1, (0, 0, 40, 12)) == OK
    assert viewing.take().damage == (Rect(0, 0, 40, 12),)
    assert pixels(shown) == expected(second)[: 40 * 4 * 12] + expected(first)[40 * 4 * 12 :]
    shown.close()


def test_blob_takes_no_transfer_and_no_2d_scanout(gpu: Gpu) -> None:
    assert gpu.create_blob(1, 4096, [(FREE, 4096)]) == OK
    assert gpu.transfer(1, (0, 0, 16, 16)) == OK
    assert gpu.set_scanout(1, (0, 0, 16, 16)) == BAD_RESOURCE
    assert gpu.create(2, 16, 16) == OK
    assert gpu.set_scanout_blob(2, (0, 0, 16, 16), (16, 16)) == BAD_RESOURCE


def test_blob_cursor_is_read_from_guest_memory(gpu: Gpu, viewing: NativeViewing) -> None:
    data = picture(64, 64)
    gpu.memory.write(FREE, data)
    assert gpu.create_blob(1, len(data), [(FREE, len(data))]) == OK
    gpu.cursor(UPDATE_CURSOR, 1, (1, 2), (3, 4))
    assert viewing.cursor().pixels == data


@pytest.mark.parametrize(
    ("wire", "colour"),
    [
        (1, b"\1\2\3\4"),
        (2, b"\1\2\3\4"),
        (3, b"\4\3\2\1"),
        (4, b"\4\3\2\1"),
        (67, b"\3\2\1\4"),
        (68, b"\4\1\2\3"),
        (121, b"\4\1\2\3"),
        (134, b"\3\2\1\4"),
    ],
)
def test_formats_are_read_with_their_own_byte_order(
    gpu: Gpu, viewing: NativeViewing, wire: int, colour: bytes
) -> None:
    """The names say the order in memory: B8G8R8A8 begins with blue. Blue 1, green 2, red 3."""
    gpu.memory.write(FREE, colour * 16)
    assert gpu.create(1, 4, 4, wire) == OK
    assert gpu.attach_backing(1, [(FREE, 64)]) == OK
    assert gpu.transfer(1, (0, 0, 4, 4)) == OK
    assert gpu.set_scanout(1, (0, 0, 4, 4)) == OK
    shown = surface(viewing)
    assert read_rgb(shown) == b"\3\2\1" * 16
    shown.close()


def test_packed_ring_and_indirect_tables_work_as_well(gpu: Gpu) -> None:
    gpu.start({*ALL, 34, 29})
    gpu.shown(1, 64, 64)
    assert gpu.flush(1, (0, 0, 64, 64)) == OK


def test_rectangles_outside_are_refused(gpu: Gpu) -> None:
    gpu.shown(1, 64, 64)
    for rect in ((0, 0, 65, 1), (64, 0, 1, 1), (0, 1, 1, 64), (0, 0, 0, 1), (1, 1, 0xFFFF_FFFF, 1)):
        assert gpu.flush(1, rect) == BAD_PARAMETER, rect
        assert gpu.transfer(1, rect) == BAD_PARAMETER, rect
        assert gpu.set_scanout(1, rect) == BAD_PARAMETER, rect
