# SPDX-License-Identifier: MIT
"""Which key of the guest's a client means: by its place where the client says it, else by its letter."""

from __future__ import annotations

from typing import Final

LEFT_SHIFT: Final = 42
RIGHT_SHIFT: Final = 54

# XT scancodes (set 1) as QEMU's extended key event has them: one byte, 0xE0 xx is 0x80 | xx. Up to 0x53 they
# are the evdev codes themselves: Linux numbered its keys by them.
_XT_PLAIN: Final = {
    0x54: 99, 0x55: 186, 0x56: 86, 0x57: 87, 0x58: 88, 0x59: 117, 0x5C: 95, 0x5D: 183, 0x5E: 184, 0x5F: 185,
    0x70: 93, 0x71: 123, 0x72: 122, 0x73: 89, 0x76: 85, 0x77: 91, 0x78: 90, 0x79: 92, 0x7B: 94, 0x7D: 124,
    0x7E: 121,
}  # fmt: skip
_XT_EXTENDED: Final = {
    0x03: 187, 0x04: 188, 0x05: 189, 0x06: 190, 0x07: 191, 0x08: 192, 0x09: 193, 0x0A: 194, 0x0D: 117,
    0x10: 165, 0x19: 163, 0x1C: 96, 0x1D: 97, 0x20: 113, 0x21: 140, 0x22: 164, 0x24: 166, 0x2E: 114,
    0x30: 115,
    0x32: 172, 0x35: 98, 0x37: 99, 0x38: 100, 0x46: 119, 0x47: 102, 0x48: 103, 0x49: 104, 0x4B: 105,
    0x4D: 106,
    0x4F: 107, 0x50: 108, 0x51: 109, 0x52: 110, 0x53: 111, 0x5B: 125, 0x5C: 126, 0x5D: 127, 0x5E: 116,
    0x5F: 142, 0x63: 143, 0x65: 217, 0x66: 156, 0x67: 173, 0x68: 128, 0x69: 159, 0x6A: 158, 0x6B: 157,
    0x6C: 155, 0x6D: 226, 0x71: 123, 0x72: 122,
}  # fmt: skip

EVDEV_BY_XT: Final[dict[int, int]] = (
    {code: code for code in range(1, 0x54)}
    | _XT_PLAIN
    | {0x80 | xt: code for xt, code in _XT_EXTENDED.items()}
)

# X11 keysyms (<X11/keysymdef.h>) by the evdev code of the key that has them on a US keyboard: rows of keys
# in the order of their codes, without and with shift.
_US_ROWS: Final = (
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    (57, " ", ""),
)
_NAMED: Final = {
    0xFF08: 14, 0xFF09: 15, 0xFE20: 15, 0xFF0D: 28, 0xFF13: 119, 0xFF14: 70, 0xFF15: 99, 0xFF1B: 1,
    0xFF50: 102, 0xFF51: 105, 0xFF52: 103, 0xFF53: 106, 0xFF54: 108, 0xFF55: 104, 0xFF56: 109, 0xFF57: 107,
    0xFF61: 99, 0xFF63: 110, 0xFF67: 127, 0xFF6B: 119, 0xFF7E: 100, 0xFF7F: 69, 0xFF8D: 96, 0xFF95: 71,
    0xFF96: 75, 0xFF97: 72, 0xFF98: 77, 0xFF99: 80, 0xFF9A: 73, 0xFF9B: 81, 0xFF9C: 79, 0xFF9D: 76,
    0xFF9E: 82, 0xFF9F: 83, 0xFFAA: 55, 0xFFAB: 78, 0xFFAC: 121, 0xFFAD: 74, 0xFFAE: 83, 0xFFAF: 98,
    0xFFB0: 82, 0xFFB1: 79, 0xFFB2: 80, 0xFFB3: 81, 0xFFB4: 75, 0xFFB5: 76, 0xFFB6: 77, 0xFFB7: 71,
    0xFFB8: 72, 0xFFB9: 73, 0xFFBD: 117, 0xFFC8: 87, 0xFFC9: 88, 0xFFE1: 42, 0xFFE2: 54, 0xFFE3: 29,
    0xFFE4: 97, 0xFFE5: 58, 0xFFE7: 125, 0xFFE8: 126, 0xFFE9: 56, 0xFFEA: 100, 0xFFEB: 125, 0xFFEC: 126,
    0xFE03: 100, 0xFFFF: 111,
}  # fmt: skip
_FUNCTION_KEYS: Final = {0xFFBE + i: 59 + i for i in range(10)} | {0xFFCA + i: 183 + i for i in range(12)}

#: evdev codes by keysym.
EVDEV_BY_KEYSYM: Final[dict[int, int]] = (
    {
        ord(letter): first + place
        for first, *rows in _US_ROWS
        for row in rows
        for place, letter in enumerate(row)
    }
    | _NAMED
    | _FUNCTION_KEYS
)
#: Keysyms that a US keyboard has with shift only.
SHIFTED: Final = frozenset(ord(letter) for _, _, shifted in _US_ROWS for letter in shifted)


def evdev(scancode: int, keysym: int) -> int | None:
    """Return a key's evdev code, or None: there is none.

    Args:
        scancode: XT, as QEMU's extended key event has it; 0: the client does not say.
        keysym: of X11.
    """
    if scancode:
        return EVDEV_BY_XT.get(scancode)
    return EVDEV_BY_KEYSYM.get(keysym)
