# SPDX-License-Identifier: MIT
"""A guest whose other CPUs change a queue, or use a slot, while the device is at it. Run under ASan too."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from guestdriver import AVAIL, INDIRECT, NEXT, WRITE, DeviceQueue, PackedDriver, SplitDriver
from split_driver import FREE, NEEDS_RESET, Rig

from vdesktop_core._native import ffi, lib
from vdesktop_core.memory import GuestMemory, MemoryRegion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.host import Host

RAM, SIZE = 0x4000_0000, 0x1_0000
TABLE, DATA = RAM + 0x1000, RAM + 0x8000
ROUNDS, ROUNDS_MAX = 20_000, 500_000
#: Maps guest memory (argv: descriptor, size) and writes its pieces over and over, until it is killed.
OTHER_CPU = """
import json, mmap, os, sys
memory = mmap.mmap(int(sys.argv[1]), int(sys.argv[2]))
pieces = [(at, bytes.fromhex(data)) for at, data in json.load(sys.stdin)]
parent = os.getppid()
while os.getppid() == parent:
    for at, data in pieces:
        memory[at : at + len(data)] = data
"""


@pytest.fixture
def region() -> Iterator[MemoryRegion]:
    region = MemoryRegion("raced", SIZE)
    yield region
    region.close()


def entry(gpa: int, length: int, flags: int, following: int, *, packed: bool) -> bytes:
    if packed:
        return struct.pack("<QIHH", gpa, length, following, flags | AVAIL)
    return struct.pack("<QIHH", gpa, length, flags, following)


def pieces(ring: Any) -> list[tuple[int, bytes]]:
    """What the other CPU writes: good and bad descriptors, in the ring and in an indirect table."""
    good = [(DATA, 64, NEXT, 1), (DATA + 64, 64, WRITE, 2), (TABLE, 32, INDIRECT, 3), (DATA, 16, 0, 4)]
    bad = [(0, 64, 0, 0), (DATA, 0xFFFF_FFF0, WRITE, 1), (RAM + SIZE - 8, 16, 0, 2), (TABLE, 17, INDIRECT, 3)]
    bad += [(DATA, 64, NEXT, 9000), (DATA, 64, WRITE | NEXT, 0), (TABLE, 0xFFFF_FFF0, INDIRECT, 5)]
    found = []
    for a, b in zip(good * 2, bad, strict=False):
        for at in (ring.desc, ring.desc + 16, TABLE, TABLE + 16):
            found += [(at, entry(*descriptor, packed=ring.packed)) for descriptor in (a, b, a)]
        if not ring.packed:
            heads = [0, 1, 9000, 0]
            found += [(ring.driver + 4, struct.pack("<H", head)) for head in heads]
            found += [(ring.driver + 2, struct.pack("<H", index)) for index in (1, 5, 9000, 1)]
    return [(at - RAM, data) for at, data in found]


@pytest.mark.parametrize("kind", [SplitDriver, PackedDriver], ids=["split", "packed"])
def test_queue_that_changes_under_the_device_never_leads_outside_of_memory(
    host: Host, region: MemoryRegion, kind: type
) -> None:
    with GuestMemory(host.native) as memory:
        memory.add(RAM, region)
        queue = DeviceQueue(host.native, memory)
        ring = kind(memory, RAM, 8)
        env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        other = subprocess.Popen(
            [sys.executable, "-c", OTHER_CPU, str(region.fd), str(SIZE)],
            stdin=subprocess.PIPE,
            pass_fds=[region.fd],
            env=env,
            text=True,
        )
        assert other.stdin is not None
        try:
            json.dump([(at, data.hex()) for at, data in pieces(ring)], other.stdin)
            other.stdin.close()
            outcomes = race(queue, memory, ring)
        finally:
            other.kill()
            other.wait()
            queue.close()
    assert 1 in outcomes
    assert len(outcomes) > 2, f"the guest never changed anything in time: {outcomes}"


def race(queue: DeviceQueue, memory: GuestMemory, ring: Any) -> set[int]:
    """Start, pop, use and complete, again and again; what pop said."""
    outcomes: set[int] = set()
    scratch = ffi.new("uint8_t[]", SIZE)
    mem = ffi.cast("struct vd_mem *", memory.native)
    for turn in range(ROUNDS_MAX):
        if turn >= ROUNDS and len(outcomes) > 2 and 1 in outcomes:
            break
        assert queue.start(ring) == 0
        result, (chain, segments) = queue.pop()
        outcomes.add(result)
        if result == 1:
            for i, (gpa, length, write) in enumerate(segments):
                assert lib.vd_mem_ptr(mem, gpa, length, write) == chain.iov[i].base != ffi.NULL
            assert chain.read_len + chain.write_len == sum(length for _, length, _ in segments)
            assert lib.vd_chain_read(chain, 0, scratch, SIZE) == min(chain.read_len, SIZE)
            queue.push(chain, chain.write_len)
        queue.publish()
        lib.vd_queue_notify_enable(queue.queue)
    return outcomes


def test_unplug_with_requests_in_flight_while_other_cpus_use_the_slot() -> None:
    rig = Rig()
    rng = lib.vd_rng_new(
        ffi.cast("struct vd_host *", rig.host.native),
        ffi.cast("struct vd_mem *", rig.memory.native),
        b"rng",
        ffi.new("struct vd_rng_options *"),
        ffi.cast("struct vd_loop *", rig.thread.native),
        ffi.new("int *"),
    )
    device = int(ffi.cast("uintptr_t", lib.vd_rng_device(rng)))
    stop = threading.Event()

    def use() -> None:
        while not stop.is_set():
            rig.write(0x50, 0)
            rig.write(0x64, rig.read(0x60))
            rig.read(0x08)
            rig.read(0x44)
            rig.read(0x100, 8)

    cpus = [threading.Thread(target=use) for _ in range(3)]
    for cpu in cpus:
        cpu.start()
    try:
        for _ in range(100):
            rig.attach(device)
            rig.negotiate(size=64)
            for i in range(16):
                rig.add([], [(FREE + 4096 * i, 4096)])
            rig.write(0x50, 0)
            assert lib.vd_mmio_detach(rig.mmio) == rig.device
            rig.memory.write(FREE, bytes(16 * 4096))
            assert rig.read(0x08) == 0
            assert rig.memory.read(FREE, 16 * 4096) == bytes(16 * 4096), "written after it was unplugged"
    finally:
        stop.set()
        for cpu in cpus:
            cpu.join()
    rig.attach(device)
    rig.negotiate(size=64)
    assert not rig.status & NEEDS_RESET
    rig.add([], [(FREE, 64)])
    rig.write(0x50, 0)
    assert rig.wait_used()[1] == 64
    rig.close()
    lib.vd_rng_free(rng)
    rig.free()


def test_device_that_changes_its_config_while_it_is_unplugged_leaves_its_successor_alone() -> None:
    rig = Rig()
    devices = [
        lib.vd_rng_new(
            ffi.cast("struct vd_host *", rig.host.native),
            ffi.cast("struct vd_mem *", rig.memory.native),
            name,
            ffi.new("struct vd_rng_options *"),
            ffi.cast("struct vd_loop *", rig.thread.native),
            ffi.new("int *"),
        )
        for name in (b"first", b"second")
    ]
    natives = [lib.vd_rng_device(device) for device in devices]
    for native in natives:
        native.config_len = 8
    stop = threading.Event()

    def change(native: Any, value: int) -> None:
        mark = bytes([value]) * 8
        while not stop.is_set():
            lib.vd_device_config_set(native, 0, mark, 8)
            lib.vd_device_interrupt(native, 0)
            seen = ffi.new("uint8_t[8]")
            lib.vd_device_config_get(native, 0, seen, 8)
            assert bytes(seen) == mark

    threads = [
        threading.Thread(target=change, args=(native, value + 1)) for value, native in enumerate(natives)
    ]
    for thread in threads:
        thread.start()
    try:
        while not (natives[0].config[0] and natives[1].config[0]):
            pass
        for turn in range(2000):
            rig.attach(int(ffi.cast("uintptr_t", natives[turn % 2])))
            assert rig.read(0x100) == 0x01010101 * (turn % 2 + 1)
            assert lib.vd_mmio_detach(rig.mmio) == rig.device
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for native, device in zip(natives, devices, strict=True):
        assert native.transport == ffi.NULL
        lib.vd_rng_free(device)
    rig.free()
