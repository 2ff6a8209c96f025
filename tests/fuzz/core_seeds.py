# SPDX-License-Identifier: MIT
"""Seeds of the core's targets: the disk, the rings and the register file."""

from __future__ import annotations

import struct

from seed_guest import (
    DEVICE,
    DRIVER,
    EVENT_IDX,
    GPA,
    INDIRECT,
    QUEUE,
    RAW_GEOMETRY,
    READABLE,
    SIZE,
    WRITABLE,
    Guest,
)

from vdesktop_core.testing.layout import AVAIL_F_NO_INTERRUPT, DescFlag
from vdesktop_core.testing.registers import CONFIG, Feature, Reg, Status


def blk() -> dict[str, bytes]:
    """Every request type."""
    kinds = {"in": 0, "out": 1, "flush": 4, "get-id": 8, "discard": 11, "write-zeroes": 13, "unknown": 99}
    ranges = struct.pack("<QII", 8, 16, 0)
    payloads = {"out": bytes(range(256)) * 4, "discard": ranges * 2, "write-zeroes": ranges, "unknown": b"?"}
    rooms = {"in": 1024, "get-id": 20, "unknown": 8}
    header, status, data = GPA + 0x720, GPA + 0x730, GPA + 0x740
    seeds = {}
    for name, kind in kinds.items():
        for packed in (False, True):
            guest = Guest(packed=packed)
            parts = [(header, 16, READABLE)]
            if name in payloads:
                parts.append((data, len(payloads[name]), READABLE))
            if name in rooms:
                parts.append((data, rooms[name], WRITABLE))
            guest.chain(0, [*parts, (status, 1, WRITABLE)])
            guest.put(header, struct.pack("<IIQ", kind, 0, 3 if name in ("in", "out") else 0))
            guest.put(data, payloads.get(name, b""))
            seeds[f"{name}-{'packed' if packed else 'split'}"] = guest.input(INDIRECT, b"\x01")
    return seeds


# Operations of fuzz_rings.c.
POP, PUSH, PUBLISH, UNPOP, ENABLE, DISABLE, POKE, COPY, SEEK = range(9)


def rings() -> dict[str, bytes]:
    """Several chains, completed in another order than they came."""
    push = bytes([PUSH, 0]) + struct.pack("<I", 100)
    copy = bytes([COPY]) + struct.pack("<HB", 3, 60)
    step_back = bytes([POP, UNPOP, POP]) + copy
    ops = {
        "in-order": (bytes([POP]) + push + bytes([PUBLISH, ENABLE])) * 4,
        "batch": bytes([DISABLE, POP, POP, POP, POP]) + push * 3 + bytes([PUBLISH, ENABLE]),
        "step-back": step_back + push + bytes([PUBLISH]) + step_back,
        "grows": bytes([POP] * 5 + [POKE]) + struct.pack("<HQ", DRIVER, 9 << 16) + bytes([POP] * 5),
        "seek": bytes([SEEK]) + struct.pack("<I", 0x8002_8002) + bytes([POP, POP]) + push + bytes([PUBLISH]),
    }
    seeds = {}
    for name, story in ops.items():
        for packed in (False, True):
            guest = Guest(packed=packed)
            for i in range(3):
                readable = [(GPA + 0x1000 + 64 * i, 40, READABLE)]
                guest.chain(0, [*readable, (GPA + 0x5FF0, 64, WRITABLE)])
            guest.chain(0, [(GPA + 0x1000, 8, READABLE)] * 3, indirect=GPA + 0x800)
            layout = "packed" if packed else "split"
            seeds[f"{name}-{layout}"] = guest.input(INDIRECT | EVENT_IDX, story)
            geometry = struct.pack("<HQQQ", SIZE, GPA, GPA + DRIVER, GPA + DEVICE)
            seeds[f"{name}-{layout}-geometry"] = guest.input(INDIRECT | RAW_GEOMETRY, geometry + story)
    guest = Guest(packed=False)
    guest.chain(0, [(0, 0, READABLE)] * 2, indirect=GPA + 0x800)
    guest.put(GPA + 8, struct.pack("<I", 0xFFFF_FFF0))  # the table's length
    guest.put(GPA + 0x81C, struct.pack("<HH", DescFlag.NEXT, 0))  # its second entry leads to the first
    return seeds | {"table-that-claims-4-gib": guest.input(INDIRECT, bytes([POP]))}


# Operations of fuzz_mmio.c.
(
    WRITE,
    READ,
    WRITE_WIDTH,
    READ_WIDTH,
    SERVE,
    INTERRUPT,
    CONFIG_SET,
    COMPLAIN,
    POLL,
    RESET,
    REPLUG,
    POKE_GUEST,
    UNPLUG,
) = range(13)


def write(reg: int, value: int) -> bytes:
    """Return a write of a register, as an operation of fuzz_mmio.c."""
    return struct.pack("<BHI", WRITE, reg, value)


def bring_up(features: set[int], queues: list[int]) -> bytes:
    """Return a driver's way to DRIVER_OK."""
    bits = sum(1 << bit for bit in {*features, Feature.VERSION_1})
    status = Status.ACKNOWLEDGE | Status.DRIVER
    ops = write(Reg.STATUS, 0) + write(Reg.STATUS, status)
    for word in (0, 1):
        ops += write(Reg.DRIVER_FEATURES_SEL, word)
        ops += write(Reg.DRIVER_FEATURES, bits >> 32 * word & 0xFFFF_FFFF)
    status |= Status.FEATURES_OK
    ops += write(Reg.STATUS, status)
    for queue in queues:
        at = GPA + QUEUE * queue
        ops += write(Reg.QUEUE_SEL, queue) + write(Reg.QUEUE_SIZE, 8)
        ops += write(Reg.QUEUE_DESC_LOW, at) + write(Reg.QUEUE_DRIVER_LOW, at + DRIVER)
        ops += write(Reg.QUEUE_DEVICE_LOW, at + DEVICE) + write(Reg.QUEUE_READY, 1)
    return ops + write(Reg.STATUS, status | Status.DRIVER_OK)


def mmio() -> dict[str, bytes]:
    """Stories of a driver: what it does after DRIVER_OK, or instead."""
    kick = write(Reg.QUEUE_NOTIFY, 0) + bytes([SERVE, 0])
    acknowledge = struct.pack("<BH", READ, Reg.INTERRUPT_STATUS) + write(Reg.INTERRUPT_ACK, 3)
    change = bytes([CONFIG_SET, 2, 4]) + b"abcd" + struct.pack("<BHB", READ_WIDTH, CONFIG, 3)
    again = write(Reg.QUEUE_SEL, 0) + write(Reg.QUEUE_RESET, 1) + bring_up(set(), [0])
    driver_writes = struct.pack("<BHBI", WRITE_WIDTH, CONFIG + 4, 2, 0x01020304) + bytes([POLL])
    after = {
        "kick": kick + acknowledge,
        "config": change + driver_writes,
        "bad-kick": write(Reg.QUEUE_NOTIFY, 0xFFFF_FFFF) + kick + bytes([POLL, RESET]),
        "queue-reset": kick + again + kick,
        "replug": kick + bytes([INTERRUPT, 1, REPLUG, POLL]) + bring_up({Feature.RING_PACKED}, [0, 1, 2]),
        "unplug": kick + bytes([UNPLUG]) + kick + change + bytes([REPLUG]),
        "complain": bytes([COMPLAIN, 0, COMPLAIN, 1]) + write(Reg.STATUS, 0),
        "poke": struct.pack("<BHQ", POKE_GUEST, DRIVER, AVAIL_F_NO_INTERRUPT | 2 << 16) + kick,
    }
    every = {Feature.INDIRECT_DESC, Feature.EVENT_IDX, Feature.RING_RESET}
    seeds = {}
    for name, story in after.items():
        for packed in (False, True):
            guest = Guest(packed=packed)
            guest.chain(0, [(GPA + 0x1000, 8, READABLE), (GPA + 0x1100, 8, WRITABLE)])
            features = every | ({Feature.RING_PACKED} if packed else set())
            ops = bring_up(features, [0, 1]) + story
            seeds[f"{name}-{'packed' if packed else 'split'}"] = guest.input(0, ops)
    early = write(Reg.QUEUE_NOTIFY, 0) + bring_up(every, [0]) + bytes([SERVE, 0])
    everything = b"".join(struct.pack("<BH", READ, reg) + write(reg, 1) for reg in Reg)
    return seeds | {"early-kick": guest.input(0, early), "every-register": guest.input(0, everything)}


def mmio_words() -> list[bytes]:
    """Accesses to every register, and values that lead somewhere."""
    words = [struct.pack("<BH", kind, reg) for reg in Reg for kind in (READ, WRITE)]
    words += [write(Reg.STATUS, value) for value in (0, 1, 3, 11, 15, 64, 128)]
    words += [write(Reg.QUEUE_SEL, n) for n in (0, 1, 2, 3, 0xFFFF)]
    words += [write(Reg.QUEUE_READY, n) for n in (0, 1)] + [write(Reg.QUEUE_RESET, 1)]
    words += [write(Reg.QUEUE_NOTIFY, n) for n in (0, 1, 2, 3)]
    return words
