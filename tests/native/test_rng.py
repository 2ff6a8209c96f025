# SPDX-License-Identifier: MIT
"""virtio-rng (virtio 1.4 §5.4)."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from split_driver import FREE, NEEDS_RESET, Rig, wait_for

from vdesktop_core._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator


class Rng:
    def __init__(self, **options: Any) -> None:
        self.rig = Rig()
        failure = ffi.new("int *")
        self.rng = lib.vd_rng_new(
            ffi.cast("struct vd_host *", self.rig.host.native),
            ffi.cast("struct vd_mem *", self.rig.memory.native),
            b"rng",
            ffi.new("struct vd_rng_options *", options),
            ffi.cast("struct vd_loop *", self.rig.thread.native),
            failure,
        )
        assert self.rng != ffi.NULL, os.strerror(-failure[0])
        self.rig.attach(int(ffi.cast("uintptr_t", lib.vd_rng_device(self.rng))))

    @property
    def counters(self) -> Any:
        counters = ffi.new("struct vd_rng_counters *")
        lib.vd_rng_counters(self.rng, counters)
        return counters


@contextmanager
def started(**options: Any) -> Iterator[Rng]:
    rng = Rng(**options)
    try:
        rng.rig.negotiate(size=64)
        yield rng
    finally:
        rng.rig.close()
        lib.vd_rng_free(rng.rng)
        rng.rig.free()


def test_request_is_filled_with_random_bytes() -> None:
    with started() as rng:
        rng.rig.add([], [(FREE, 64), (FREE + 0x1000, 64)])
        rng.rig.kick()
        assert rng.rig.wait_used()[1] == 128
        first, second = rng.rig.memory.read(FREE, 64), rng.rig.memory.read(FREE + 0x1000, 64)
        assert len({first, second, bytes(64)}) == 3
        assert rng.rig.memory.read(FREE + 64, 64) == bytes(64), "past the buffer nothing was written"
        assert (rng.counters.requests, rng.counters.bytes) == (1, 128)


def test_huge_request_is_given_part() -> None:
    with started() as rng:
        rng.rig.add([], [(FREE, 1 << 20)])
        rng.rig.kick()
        assert rng.rig.wait_used()[1] == lib.VD_RNG_REQUEST_MAX
        assert rng.rig.memory.read(FREE + lib.VD_RNG_REQUEST_MAX, 4096) == bytes(4096)


def test_full_ring_is_served_whole() -> None:
    with started() as rng:
        for i in range(64):
            rng.rig.add([], [(FREE + 64 * i, 64)])
        rng.rig.kick()
        assert sum(rng.rig.wait_used()[1] for _ in range(64)) == 64 * 64


def test_limit_stops_at_its_bytes_until_the_period_ends() -> None:
    """The period is an hour: what comes beyond the limit cannot have been waited for."""
    with started(max_bytes=100, period_ms=3_600_000) as rng:
        for i in range(3):
            rng.rig.add([], [(FREE + 64 * i, 64)])
        rng.rig.kick()
        assert [rng.rig.wait_used()[1] for _ in range(2)] == [64, 36]
        wait_for(lambda: rng.counters.throttled, "the limit")
        rng.rig.kick()
        assert rng.rig.poll_used() is None
        assert rng.counters.bytes == 100


def test_limit_goes_on_after_the_period_without_a_kick() -> None:
    with started(max_bytes=64, period_ms=20) as rng:
        for i in range(5):
            rng.rig.add([], [(FREE + 64 * i, 64)])
        rng.rig.kick()
        assert [rng.rig.wait_used()[1] for _ in range(5)] == [64] * 5
        assert rng.counters.throttled >= 1


def test_readable_only_request_breaks_the_protocol_and_reset_mends_it() -> None:
    with started() as rng:
        rng.rig.add([(FREE, 64)], [])
        rng.rig.kick()
        wait_for(lambda: rng.rig.status & NEEDS_RESET, "NEEDS_RESET")
        rng.rig.negotiate(size=64)
        rng.rig.add([], [(FREE, 8)])
        rng.rig.kick()
        assert rng.rig.wait_used()[1] == 8


def test_reset_while_throttled_gives_nothing_afterwards() -> None:
    with started(max_bytes=1, period_ms=30) as rng:
        for i in range(4):
            rng.rig.add([], [(FREE + 64 * i, 64)])
        rng.rig.kick()
        rng.rig.wait_used()
        rng.rig.write(0x70, 0)
        given = rng.counters.bytes
        rng.rig.negotiate(size=64)
        rng.rig.add([], [(FREE, 64)])
        rng.rig.kick()
        rng.rig.wait_used()
        assert rng.counters.bytes == given + 1


def test_limit_without_a_period_is_refused() -> None:
    rig = Rig()
    failure = ffi.new("int *")
    rng = lib.vd_rng_new(
        ffi.cast("struct vd_host *", rig.host.native),
        ffi.cast("struct vd_mem *", rig.memory.native),
        b"rng",
        ffi.new("struct vd_rng_options *", {"max_bytes": 1}),
        ffi.cast("struct vd_loop *", rig.thread.native),
        failure,
    )
    assert rng == ffi.NULL
    assert failure[0] < 0
    rig.free()
