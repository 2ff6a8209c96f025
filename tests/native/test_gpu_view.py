# SPDX-License-Identifier: MIT
"""Blobs that are shown where they lie, in guest memory; and those that cannot be."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gpu_rig import FREE, OK, Gpu, picture

from vdesktop_core.display.screen import News, Rect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.display.native import NativeSurface, NativeViewing

PAGE = 4096
SIDE = 64
PAGES = SIDE * SIDE * 4 // PAGE
WHOLE = (0, 0, SIDE, SIDE)
#: Mappings that one view may take, and all of a device's.
PIECES_MAX, VIEWED_MAX = 1024, 8192


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    gpu = Gpu()
    gpu.start()
    yield gpu
    gpu.free()


@pytest.fixture
def viewing(gpu: Gpu) -> Iterator[NativeViewing]:
    with contextlib.closing(gpu.gpu.screen.scanouts[0].view()) as viewing:
        viewing.take()
        yield viewing


def surface(viewing: NativeViewing) -> NativeSurface:
    shown = viewing.take().surface
    assert shown is not None
    return shown


def scattered(pages: int, first: int = 0) -> list[tuple[int, int]]:
    """Pages in an order that leaves none behind its neighbour."""
    places = [FREE + PAGE * (first + 2 * page) for page in range(pages)]
    return [(place, PAGE) for place in reversed(places)]


def draw(gpu: Gpu, entries: list[tuple[int, int]], data: bytes) -> None:
    for place, size in entries:
        gpu.memory.write(place, data[:size])
        data = data[size:]


def show(gpu: Gpu, data: bytes, resource: int = 1, entries: list[tuple[int, int]] | None = None) -> None:
    entries = scattered(PAGES) if entries is None else entries
    draw(gpu, entries, data)
    assert gpu.create_blob(resource, sum(size for _, size in entries), entries) == OK
    assert gpu.set_scanout_blob(resource, WHOLE, (SIDE, SIDE)) == OK


def mappings() -> int:
    """Of guest memory."""
    return Path("/proc/self/maps").read_text().count("memfd:vdesktop-ram")


def test_blob_of_pages_is_shown_where_it_lies(gpu: Gpu, viewing: NativeViewing) -> None:
    first, second = picture(SIDE, SIDE, 1), picture(SIDE, SIDE, 2)
    show(gpu, first)
    with contextlib.closing(surface(viewing)) as shown:
        assert shown.view == first
        assert shown.fd == -1
        draw(gpu, scattered(PAGES), second)
        assert gpu.flush(1, (0, 8, SIDE, 8)) == OK
        assert viewing.take().damage == (Rect(0, 8, SIDE, 8),)
        assert shown.view == second
    assert gpu.counter("copied_bytes") == 0
    assert gpu.counter("memory_bytes") < SIDE * SIDE * 4  # the list of its pages


def test_part_of_a_blob_is_shown_with_its_offset_and_stride(gpu: Gpu, viewing: NativeViewing) -> None:
    entries = [(FREE + 3 * PAGE, 2 * PAGE), (FREE, PAGE)]
    data = random.Random(1).randbytes(3 * PAGE)
    draw(gpu, entries, data)
    assert gpu.create_blob(1, 3 * PAGE - 7, entries) == OK
    assert gpu.set_scanout_blob(1, (2, 1, 30, 20), (40, 24), stride=173, offset=5000) == OK
    with contextlib.closing(surface(viewing)) as shown:
        start = 5000 + 173 + 2 * 4
        assert shown.view == data[start : start + 19 * 173 + 30 * 4]
    assert gpu.counter("copied_bytes") == 0


def test_flipping_between_blobs_makes_no_new_view(gpu: Gpu, viewing: NativeViewing) -> None:
    pictures = [picture(SIDE, SIDE, 1), picture(SIDE, SIDE, 2)]
    for i, data in enumerate(pictures):
        show(gpu, data, i + 1, scattered(PAGES, first=100 * i))
    before = mappings()
    for turn in range(20):
        assert gpu.set_scanout_blob(turn % 2 + 1, WHOLE, (SIDE, SIDE)) == OK
        with contextlib.closing(surface(viewing)) as shown:
            assert shown.view == pictures[turn % 2]
    assert mappings() == before


def test_view_outlives_its_resource_and_the_guest_memory(viewing_of_a_dead_guest: NativeSurface) -> None:
    assert viewing_of_a_dead_guest.view == picture(SIDE, SIDE, 3)


@pytest.fixture
def viewing_of_a_dead_guest() -> Iterator[NativeSurface]:
    """What a viewer has got that does not look any more: resource, device, memory are gone meanwhile."""
    gpu = Gpu()
    gpu.start()
    viewing = gpu.gpu.screen.scanouts[0].view()
    show(gpu, picture(SIDE, SIDE, 3))
    shown = surface(viewing)
    assert gpu.unref(1) == OK
    assert viewing.take().news & News.SURFACE
    viewing.close()
    gpu.free(keep_host=True)
    yield shown
    shown.close()
    gpu.host.close()


def test_view_is_unmapped_with_its_last_user(gpu: Gpu, viewing: NativeViewing) -> None:
    before = mappings()
    show(gpu, picture(SIDE, SIDE))
    shown = surface(viewing)
    assert mappings() == before + PAGES
    assert gpu.unref(1) == OK
    assert mappings() == before + PAGES
    shown.close()
    assert mappings() == before


def test_reset_takes_the_view_from_the_screen(gpu: Gpu, viewing: NativeViewing) -> None:
    show(gpu, picture(SIDE, SIDE))
    surface(viewing).close()
    gpu.write(0x70, 4, 0)
    assert viewing.take().surface is None
    gpu.start()
    show(gpu, data := picture(SIDE, SIDE, 9))
    with contextlib.closing(surface(viewing)) as shown:
        assert shown.view == data


def test_detached_blob_keeps_the_picture_it_had(gpu: Gpu, viewing: NativeViewing) -> None:
    first, second = picture(SIDE, SIDE, 1), picture(SIDE, SIDE, 2)
    show(gpu, first)
    assert gpu.detach(1) == OK
    draw(gpu, scattered(PAGES), second)
    assert gpu.flush(1, WHOLE) == OK
    with contextlib.closing(surface(viewing)) as shown:
        assert shown.view == first
    assert gpu.attach_backing(1, scattered(PAGES)) == OK
    assert gpu.flush(1, WHOLE) == OK
    with contextlib.closing(surface(viewing)) as shown:
        assert shown.view == second


@pytest.mark.parametrize("off", [1, 4, 2048])
def test_pieces_that_are_no_pages_are_copied(gpu: Gpu, viewing: NativeViewing, off: int) -> None:
    for entries in (
        [(FREE + off, SIDE * SIDE * 4)],
        [(FREE, PAGE + off), (FREE + 2 * PAGE, SIDE * SIDE * 4 - PAGE - off)],
    ):
        show(gpu, data := picture(SIDE, SIDE, off), entries=entries)
        with contextlib.closing(surface(viewing)) as shown:
            assert shown.view == data
        assert gpu.unref(1) == OK
    assert gpu.counter("copied_bytes") == 2 * SIDE * SIDE * 4


def test_more_pieces_than_a_view_may_have_are_copied(gpu: Gpu, viewing: NativeViewing) -> None:
    show(gpu, data := picture(SIDE, SIDE), entries=scattered(PIECES_MAX + 1)[:PIECES_MAX])
    assert gpu.counter("copied_bytes") == 0
    assert gpu.unref(1) == OK
    entries = scattered(PIECES_MAX + 1)
    draw(gpu, entries, data)
    assert gpu.create_blob(2, len(entries) * PAGE, entries) == OK
    assert gpu.set_scanout_blob(2, WHOLE, (SIDE, SIDE)) == OK
    with contextlib.closing(surface(viewing)) as shown:
        assert shown.view == data
    assert gpu.counter("copied_bytes") == SIDE * SIDE * 4


def test_views_of_a_device_are_bounded_and_given_back(gpu: Gpu) -> None:
    before = mappings()
    most = VIEWED_MAX // PIECES_MAX
    for turn in (1, 2):
        for resource in range(1, most + 3):
            show(gpu, picture(SIDE, SIDE), resource, scattered(PIECES_MAX))
        assert mappings() <= before + VIEWED_MAX
        assert gpu.counter("copied_bytes") == turn * 2 * SIDE * SIDE * 4  # the two beyond
        for resource in range(1, most + 3):
            assert gpu.unref(resource) == OK
        assert mappings() == before
