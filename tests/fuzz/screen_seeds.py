# SPDX-License-Identifier: MIT
"""Seeds of the screen and the input device, and of display clients."""

from __future__ import annotations

import struct

from seed_guest import (
    ALL_FEATURES,
    EVENT_IDX,
    GPA,
    INDIRECT,
    READABLE,
    WRITABLE,
    Guest,
)


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
    screen = [1, 0, 2, 2, 9, 0, 0, 0, 9, 2, 0, 60, 50, 3, 4, 0, 1, 5, 3, 1, 4, 8, 0, 9, 9]
    meanwhile = bytes([*screen, 5, 0, 7, 6, 0])
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
    # Whole pages of memory that can be mapped once more, the last one first (harness.c).
    pages = struct.pack("<QIIQII", GPA + 0x7000, 4096, 0, GPA + 0x6000, 4096, 0)
    in_place = [gpu_command(0x10C, struct.pack("<4IQQ", 2, 1, 0, 2, 0, 8000) + pages), *blob[1:]]
    return {
        "info": [gpu_command(0x100), gpu_command(0x10A, bytes(8)), gpu_command(0x10B, one)],
        "picture": picture,
        "gone": [*picture, gpu_command(0x107, one), gpu_command(0x102, one)],
        "blob": blob,
        "blob-gone": [*blob, gpu_command(0x107, struct.pack("<II", 2, 0)), blob[2]],
        "blob-in-place": in_place,
        "blob-taken-back": [*in_place, gpu_command(0x107, struct.pack("<II", 2, 0)), blob[2]],
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
