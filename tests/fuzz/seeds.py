# SPDX-License-Identifier: MIT
"""Seed inputs for the fuzz targets, and dictionaries: valid input, from which the fuzzer goes astray.

``seeds.py TARGET FOLDER DICTIONARY`` writes those of one target. The form of an input is that of harness.h.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import vdagent_seeds

from vdesktop_core.testing.layout import AVAIL_F_NO_INTERRUPT, PACKED_DESC, SPLIT_DESC, DescFlag
from vdesktop_core.testing.registers import CONFIG, Feature, Reg, Status

GPA, QUEUE, DRIVER, DEVICE, SIZE = 0x1000, 0x200, 0x100, 0x140, 16
PACKED, EVENT_IDX, INDIRECT, PLAIN, RAW_GEOMETRY = 1, 2, 4, 8, 16
READABLE, WRITABLE = False, True

Part = tuple[int, int, bool]  #: address, length, for the device to write


class Guest:
    """Guest memory in the making: chains in the rings of several queues."""

    def __init__(self, *, packed: bool) -> None:
        self.packed = packed
        self.memory = bytearray(0x4000)
        self.descs: dict[int, int] = {}
        self.chains: dict[int, int] = {}

    def put(self, address: int, data: bytes) -> None:
        """Write bytes at a guest-physical address."""
        self.memory[address - GPA : address - GPA + len(data)] = data

    def chain(self, queue: int, parts: list[Part], *, indirect: int = 0) -> None:
        """Make a chain available; ``indirect``: where its table lies."""
        base, first = GPA + QUEUE * queue, self.descs.get(queue, 0)
        marks = DescFlag.AVAIL if self.packed else 0
        if indirect:
            self.put(indirect, self._table(parts, 0, 0))
            whole = (indirect, 16 * len(parts))
            last = DescFlag.INDIRECT | marks
            raw = PACKED_DESC.pack(*whole, 0, last) if self.packed else SPLIT_DESC.pack(*whole, last, 0)
        else:
            raw = self._table(parts, first, marks)
        self.put(base + 16 * first, raw)
        number = self.chains.get(queue, 0)
        if not self.packed:
            self.put(base + DRIVER + 4 + 2 * number, struct.pack("<H", first))
            self.put(base + DRIVER, struct.pack("<HH", 0, number + 1))
        self.chains[queue] = number + 1
        self.descs[queue] = first + len(raw) // 16

    def _table(self, parts: list[Part], first: int, marks: int) -> bytes:
        raw = b""
        for i, (address, length, write) in enumerate(parts):
            flags = (DescFlag.WRITE if write else 0) | (DescFlag.NEXT if i + 1 < len(parts) else 0)
            if self.packed:
                raw += PACKED_DESC.pack(address, length, first, flags | marks)
            else:
                raw += SPLIT_DESC.pack(address, length, flags, first + i + 1)
        return raw

    def input(self, options: int, ops: bytes) -> bytes:
        """Return the input as a target reads it."""
        options |= PACKED if self.packed else 0
        return (struct.pack("<BH", options, len(ops)) + ops + self.memory).rstrip(b"\0")


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


# Operations of fuzz_net.c.
NET_KICK, NET_FRAME, NET_DRAIN, NET_LINK, NET_POKE, NET_QUEUE_RESET = range(6)
RX_QUEUE, TX_QUEUE, CTRL_QUEUE = range(3)
MAC = bytes.fromhex("525400123456")
ALL_FEATURES = (2**64 - 1).to_bytes(8, "little")

#: struct virtio_net_hdr (§5.1.6).
NET_HEADER = struct.Struct("<BBHHHHH")
#: Class, command, data (§5.1.6.5).
NET_COMMANDS = {
    "promisc": bytes([0, 0, 1]),
    "nobcast": bytes([0, 5, 1]),
    "mac-table": bytes([1, 0]) + struct.pack("<I", 1) + MAC + struct.pack("<I", 2) + MAC + MAC,
    "mac-address": bytes([1, 1]) + MAC,
    "vlan": bytes([2, 0]) + struct.pack("<H", 5),
    "pairs": bytes([4, 0]) + struct.pack("<H", 1),
    "offloads": bytes([5, 0]) + struct.pack("<Q", 1 << 7),
    "unknown": bytes([9, 9]),
}


def net() -> dict[str, bytes]:
    """Frames of each kind both ways, and every control command."""
    headers = {
        "plain": NET_HEADER.pack(0, 0, 0, 0, 0, 0, 0),
        "checksum": NET_HEADER.pack(1, 0, 0, 0, 34, 16, 0),
        "tso4": NET_HEADER.pack(1, 1, 54, 1460, 34, 16, 0),
        "tso6": NET_HEADER.pack(1, 0x84, 74, 1440, 54, 16, 0),
        "uso": NET_HEADER.pack(1, 5, 42, 1472, 34, 6, 0),
    }
    start = ALL_FEATURES + bytes([NET_FRAME]) + struct.pack("<H", 2000) + bytes(12) + MAC * 3
    kicks = b"".join(bytes([NET_KICK, queue]) for queue in (CTRL_QUEUE, TX_QUEUE, RX_QUEUE))
    data, room, command = GPA + 0x1000, GPA + 0x2000, GPA + 0x3000
    seeds = {}
    for packed in (False, True):
        layout = "packed" if packed else "split"
        for name, header in headers.items():
            guest = Guest(packed=packed)
            guest.put(data, header + MAC * 2 + bytes([8, 0, 0x45]))
            guest.chain(TX_QUEUE, [(data, 12, READABLE), (data + 12, 1600, READABLE)])
            for i in range(3):
                guest.chain(RX_QUEUE, [(room + 0x400 * i, 0x400, WRITABLE)])
            seeds[f"{name}-{layout}"] = guest.input(INDIRECT, start + kicks + bytes([NET_DRAIN]))
        for name, message in NET_COMMANDS.items():
            guest = Guest(packed=packed)
            guest.put(command, message)
            parts = [(command, 2, READABLE), (command + 2, len(message) - 2, READABLE)]
            guest.chain(CTRL_QUEUE, [*parts, (command + 0x100, 1, WRITABLE)])
            guest.chain(RX_QUEUE, [(room, 0x1000, WRITABLE)])
            end = bytes([NET_LINK, 0, NET_LINK, 1, NET_QUEUE_RESET, RX_QUEUE])
            seeds[f"{name}-{layout}"] = guest.input(INDIRECT, start + kicks + end)
        guest = Guest(packed=packed)
        guest.chain(RX_QUEUE, [(0, 0x1000, WRITABLE)])
        seeds[f"broken-with-frames-waiting-{layout}"] = guest.input(INDIRECT, start + kicks + start[8:])
    return seeds


def net_words() -> list[bytes]:
    """Control commands and offload headers."""
    return [*NET_COMMANDS.values(), *(NET_HEADER.pack(1, t, 54, 64, 34, 16, 0) for t in (0, 1, 4, 5, 0x81))]


# Operations of fuzz_console.c.
KICK, TYPE, DRAIN, RESIZE, REMOVE, ADD, HANG_UP, EMERGENCY, _POKE, CONSOLE_QUEUE_RESET = range(10)
CONTROL_RX, CONTROL_TX = 2, 3
#: struct virtio_console_control: id, event, value (§5.3.6.2).
CONTROL = struct.Struct("<IHH")
DEVICE_READY, PORT_READY, PORT_OPEN = 0, 3, 6


def console() -> dict[str, bytes]:
    """A driver that opens its ports, with bytes both ways."""
    hello = [(0, DEVICE_READY), (0, PORT_READY), (1, PORT_READY), (0, PORT_OPEN), (1, PORT_OPEN)]
    kicks = b"".join(bytes([KICK, queue]) for queue in (CONTROL_TX, CONTROL_RX, 0, 1, 4, 5))
    after = {
        "bytes": bytes([TYPE, 0, 5]) + b"hello" + bytes([TYPE, 1, 3]) + b"key" + bytes([DRAIN, 0, DRAIN, 1]),
        "resize": bytes([RESIZE, 0]) + struct.pack("<HH", 132, 43) + bytes([EMERGENCY, 33]),
        "ports": bytes([REMOVE, 1, HANG_UP, 0, TYPE, 0, 1, 65, ADD, 1, CONSOLE_QUEUE_RESET, 5]),
    }
    data = GPA + 0x1000
    seeds = {}
    for name, story in after.items():
        for packed in (False, True):
            guest = Guest(packed=packed)
            for i, (port, event) in enumerate(hello):
                guest.put(data + 8 * i, CONTROL.pack(port, event, 1))
                guest.chain(CONTROL_TX, [(data + 8 * i, 8, READABLE)])
            for i in range(8):
                guest.chain(CONTROL_RX, [(data + 0x100 + 0x80 * i, 0x80, WRITABLE)])
            for i, queue in enumerate((0, 4)):
                guest.chain(queue, [(data + 0x800 + 0x100 * i, 0x100, WRITABLE)])
                guest.chain(queue + 1, [(data, 0x40, READABLE), (data, 0x400, READABLE)])
            layout = "packed" if packed else "split"
            seeds[f"{name}-{layout}"] = guest.input(INDIRECT, kicks + story + kicks)
    guest = Guest(packed=False)
    guest.chain(0, [(0, 0x1000, WRITABLE)])
    broken = bytes([KICK, 0]) + after["bytes"]
    return seeds | {"broken-with-keys-waiting": guest.input(INDIRECT | PLAIN, broken)}


def console_words() -> list[bytes]:
    """Control messages of the driver."""
    return [CONTROL.pack(port, event, value) for port in (0, 1) for event in range(8) for value in (0, 1)]


def rfb_bytes(data: bytes) -> bytes:
    """Bytes of a client's, as operations."""
    pieces = (data[at : at + 4095] for at in range(0, len(data), 4095))
    return b"".join(b"\0" + struct.pack("<H", len(piece)) + piece for piece in pieces)


def rfb_frame(data: bytes) -> bytes:
    """A WebSocket frame with a mask of zeros."""
    return b"\x82\xfe" + struct.pack(">H", len(data)) + bytes(4) + data


def rfb_words() -> list[bytes]:
    """Messages of a client."""
    codes: tuple[int, ...] = (0, 7, 16, -23, -247, -223, -239, -258, -261, -308, -312, -313, -314, -316)
    codes += (-0x3F5E1A32, 0x76640001)
    layout = struct.pack(">IHHHHI", 0, 0, 0, 64, 48, 0)
    return [
        b"RFB 003.008\n",
        struct.pack(">BxH", 2, len(codes)) + b"".join(struct.pack(">i", code) for code in codes),
        *(struct.pack(">BxHi", 2, 1, code) for code in codes),
        *(
            b"\0\0\0\0" + struct.pack(">BBBBHHHBBB3x", *form)
            for form in (
                (32, 24, 0, 1, 255, 255, 255, 0, 8, 16),
                (32, 24, 1, 1, 255, 255, 255, 24, 16, 8),
                (16, 16, 0, 1, 31, 63, 31, 11, 5, 0),
                (8, 8, 0, 1, 7, 7, 3, 0, 3, 6),
            )
        ),
        struct.pack(">BBHHHH", 3, 0, 0, 0, 96, 96),
        struct.pack(">BBHHHH", 3, 1, 0, 0, 96, 96),
        struct.pack(">BBxxI", 4, 1, 97),
        struct.pack(">BBHH", 5, 0xFF, 30, 20) + b"\3",
        struct.pack(">Bxxxi", 6, 5) + b"hello",
        struct.pack(">Bxxxi", 6, -4) + b"\1\0\0\1",
        struct.pack(">BBHHHH", 150, 1, 0, 0, 96, 96),
        struct.pack(">BBHI", 214, 1, 0, 8) + bytes(8),
        struct.pack(">BBHI", 214, 2, 0, 3) + b"abc",
        b"\xf8\0\0\0" + struct.pack(">IB", 0x80000007, 2) + b"ab",
        b"\xf8\0\0\0" + struct.pack(">IBQ", 1, 8, 0),
        struct.pack(">BxHHBx", 251, 64, 48, 1) + layout,
        struct.pack(">BBHII", 255, 0, 1, 97, 30),
    ]


def rfb() -> dict[str, bytes]:
    """A session in each encoding; its options come first."""
    hello = b"RFB 003.008\n\1\1"
    first, everything, *rest = rfb_words()
    meanwhile = bytes([1, 0, 2, 2, 9, 0, 0, 0, 9, 2, 0, 60, 50, 3, 4, 0, 1, 5, 5, 0, 7, 6, 0])
    seeds = {}
    for name, code in (("raw", 0), ("tight", 7), ("zrle", 16)):
        encoding = struct.pack(">BxHi", 2, 1, code)
        story = rfb_bytes(hello + encoding + b"".join(rest)) + meanwhile + rfb_bytes(b"".join(rest))
        seeds[name] = b"\0" + story
        seeds[f"{name}-two"] = b"\4" + story
        seeds[f"{name}-jpeg"] = b"\0" + rfb_bytes(hello + everything[:4] + encoding[4:] + everything[8:])
    seeds["websocket"] = b"\1" + rfb_bytes(rfb_frame(hello) + rfb_frame(everything + b"".join(rest)))
    seeds["ping"] = b"\1" + rfb_bytes(b"\x89\x82\0\0\0\0hi\x88\x82\0\0\0\0\3\xe8")
    seeds["password"] = b"\2" + rfb_bytes(first + b"\2" + bytes(16))
    seeds["old"] = b"\0" + rfb_bytes(b"RFB 003.003\n\1" + rest[0] + rest[-3]) + meanwhile
    seeds["held"] = b"\0" + rfb_bytes(hello) + b"\7\0\1" + rfb_bytes(b"".join(rest) * 4) + b"\7\0\0"
    return seeds


# Operations of fuzz_gpu.c.
GPU_KICK, GPU_POKE, GPU_LOOK, GPU_SIZE, GPU_VIEW, GPU_QUEUE_RESET, GPU_CONFIG, GPU_FENCE = range(8)
GPU_CONTROL, GPU_CURSOR = 0, 1
#: Pixels a side of the seeds' pictures: as large as guest memory has room for.
GPU_SIDE = 32


def gpu_command(kind: int, body: bytes = b"", flags: int = 0, context: int = 0, fence: int = 2) -> bytes:
    """Return a command: struct virtio_gpu_ctrl_hdr (§5.7.6.7), then what belongs to its type."""
    return struct.pack("<IIQIB3x", kind, flags, fence, context, 0) + body


def gpu_commands() -> dict[str, list[bytes]]:
    """Sequences as a driver sends them; pictures are at GPA + 0x3000."""
    data, size = GPA + 0x3000, 4 * GPU_SIDE * GPU_SIDE
    rect = struct.pack("<4I", 0, 0, GPU_SIDE, GPU_SIDE)
    part = struct.pack("<4I", 3, 5, 7, 9)
    entries = struct.pack("<QIIQII", data, size // 2, 0, data + size // 2, size // 2, 0)
    one = struct.pack("<II", 1, 0)
    blob_view = struct.pack("<IIIIII", 0, 2, GPU_SIDE, GPU_SIDE, 2, 0) + struct.pack(
        "<8I", 4 * GPU_SIDE, *[0] * 7
    )
    picture = [
        gpu_command(0x101, struct.pack("<4I", 1, 2, GPU_SIDE, GPU_SIDE)),
        gpu_command(0x106, struct.pack("<II", 1, 2) + entries),
        gpu_command(0x103, rect + struct.pack("<II", 0, 1)),
        gpu_command(0x105, part + struct.pack("<QII", 0, 1, 0)),
        gpu_command(0x104, part + one, flags=1),
    ]
    blob = [
        gpu_command(0x10C, struct.pack("<4IQQ", 2, 1, 0, 2, 0, size) + entries),
        gpu_command(0x10D, rect + blob_view),
        gpu_command(0x104, part + struct.pack("<II", 2, 0)),
    ]
    return {
        "info": [gpu_command(0x100), gpu_command(0x10A, bytes(8)), gpu_command(0x10B, one)],
        "picture": picture,
        "gone": [*picture, gpu_command(0x107, one), gpu_command(0x102, one)],
        "blob": blob,
        "blob-gone": [*blob, gpu_command(0x107, struct.pack("<II", 2, 0)), blob[2]],
        "capsets": [gpu_command(0x108, bytes(8)), gpu_command(0x109, struct.pack("<II", 1, 1))],
        "3d": [
            gpu_command(0x200, struct.pack("<II64s", 4, 1, b"seed"), context=1),
            gpu_command(0x204, struct.pack("<12I", 1, 2, 2, 2, GPU_SIDE, GPU_SIDE, 1, 1, 0, 0, 0, 0)),
            gpu_command(0x106, struct.pack("<II", 1, 2) + entries),
            gpu_command(0x202, one, context=1),
            gpu_command(0x103, rect + struct.pack("<II", 0, 1)),
            gpu_command(
                0x205, struct.pack("<6IQIIII", *[0] * 3, GPU_SIDE, GPU_SIDE, 1, 0, 1, 0, 0, 0), context=1
            ),
            gpu_command(0x207, struct.pack("<II", 8, 0) + bytes(8), flags=1, context=1, fence=1),
            gpu_command(0x104, part + one),
            gpu_command(0x203, one, context=1),
            gpu_command(0x201, context=1),
        ],
        "blank": [*picture, gpu_command(0x103, rect + bytes(8))],
    }


def gpu() -> dict[str, bytes]:
    """Sequences of commands with viewers that look at each, and a cursor of a resource that is none."""
    looks = bytes([GPU_KICK, GPU_CONTROL, GPU_LOOK, 0, GPU_LOOK, 1])
    others = (
        bytes([GPU_SIZE, 1])
        + struct.pack("<HH", 800, 600)
        + bytes([GPU_CONFIG, 1, 0, 0, 0, GPU_VIEW, 0, GPU_FENCE])
    )
    seeds = {}
    for name, commands in gpu_commands().items():
        for packed in (False, True):
            guest = Guest(packed=packed)
            at = GPA + 0x800
            for command in commands:
                guest.put(at, command)
                guest.chain(GPU_CONTROL, [(at, len(command), READABLE), (GPA + 0x2800, 0x600, WRITABLE)])
                at += -(-len(command) // 16) * 16
            move = gpu_command(0x300, struct.pack("<IiiIIIII", 0, -3, 4, 0, 1, 5, 5, 0))
            guest.put(at, move)
            guest.chain(GPU_CURSOR, [(at, len(move), READABLE)])
            story = ALL_FEATURES + looks + bytes([GPU_KICK, GPU_CURSOR]) + others + looks
            seeds[f"{name}-{'packed' if packed else 'split'}"] = guest.input(INDIRECT, story)
    return seeds


def gpu_words() -> list[bytes]:
    """Types of commands, and whole ones."""
    words = [struct.pack("<I", kind) for kind in (*range(0x100, 0x10E), *range(0x200, 0x208), 0x300, 0x301)]
    return words + [command[:64] for commands in gpu_commands().values() for command in commands]


# Operations of fuzz_input.c.
INPUT_KICK, INPUT_FRAME, INPUT_POKE, INPUT_SELECT, INPUT_READ, INPUT_QUEUE_RESET = range(6)


def input_device() -> dict[str, bytes]:
    """Keys, motion and fingers for a driver with many buffers, few, and tiny ones; lamps; every selection."""
    key = bytes([INPUT_FRAME, 1, 1, 30]) + struct.pack("<H", 1)
    move = bytes([INPUT_FRAME, 2, 3, 0]) + struct.pack("<HBBH", 100, 3, 1, 200)
    touch = bytes([INPUT_FRAME, 3, 3, 0x2F]) + struct.pack("<HBBHBBH", 1, 3, 0x39, 7, 1, 0x4A, 1)
    kicks = bytes([INPUT_KICK, 0, INPUT_KICK, 1])
    selections = b"".join(
        bytes([INPUT_SELECT, 0, select, INPUT_SELECT, 1, sub, INPUT_READ, 2, INPUT_READ, 8])
        for select in (0, 1, 2, 3, 0x10, 0x11, 0x12)
        for sub in (0, 1, 3, 0x11, 0x2F)
    )
    stories = {
        "keys": kicks + key + move + move + touch + key,
        "before-the-driver": key + move + kicks + key,
        "queue-reset": kicks + key + bytes([INPUT_QUEUE_RESET, 0]) + key,
        "selections": selections,
        "long-frame": kicks + bytes([INPUT_FRAME, 63]) + bytes([1, 5, 1, 0]) * 63 + key,
    }
    lamp = struct.pack("<HHi", 0x11, 1, 1)
    seeds = {}
    for name, story in stories.items():
        for packed in (False, True):
            guest = Guest(packed=packed)
            for i in range(6):
                pieces = (
                    [(GPA + 0x1000 + 8 * i, 8, WRITABLE)]
                    if i % 2
                    else [
                        (GPA + 0x1100 + 8 * i, 3, WRITABLE),
                        (GPA + 0x1180 + 8 * i, 5, WRITABLE),
                    ]
                )
                guest.chain(0, pieces)
            guest.put(GPA + 0x1200, lamp)
            guest.chain(1, [(GPA + 0x1200, 8, READABLE)])
            seeds[f"{name}-{'packed' if packed else 'split'}"] = guest.input(INDIRECT | EVENT_IDX, story)
    return seeds


def dictionary(words: list[bytes]) -> str:
    """Return words in libFuzzer's format."""
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words)


SEEDS = {
    "blk": blk,
    "console": console,
    "gpu": gpu,
    "input": input_device,
    "mmio": mmio,
    "net": net,
    "rfb": rfb,
    "rings": rings,
    "vdagent": vdagent_seeds.seeds,
}
WORDS = {
    "console": console_words,
    "gpu": gpu_words,
    "mmio": mmio_words,
    "net": net_words,
    "rfb": rfb_words,
    "vdagent": vdagent_seeds.words,
}


def main(target: str, folder: Path, words: Path) -> None:
    """Write the seeds and the dictionary of one target."""
    for name, data in SEEDS[target]().items():
        (folder / name).write_bytes(data)
    words.write_text(dictionary(WORDS[target]()) if target in WORDS else "")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
