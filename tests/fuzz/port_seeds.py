# SPDX-License-Identifier: MIT
"""Seeds of the network card and the console."""

from __future__ import annotations

import struct

from seed_guest import (
    ALL_FEATURES,
    GPA,
    INDIRECT,
    PLAIN,
    READABLE,
    WRITABLE,
    Guest,
)

# Operations of fuzz_net.c.
NET_KICK, NET_FRAME, NET_DRAIN, NET_LINK, NET_POKE, NET_QUEUE_RESET = range(6)
RX_QUEUE, TX_QUEUE, CTRL_QUEUE = range(3)
MAC = bytes.fromhex("525400123456")

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
