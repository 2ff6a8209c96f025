# SPDX-License-Identifier: MIT
"""Pictures of 1920 x 1080, B, G, R, X in memory: what people look at, and the worst there is."""

from __future__ import annotations

import random

WIDTH, HEIGHT = 1920, 1080
GLYPH_WIDTH, GLYPH_HEIGHT, GLYPHS = 8, 16, 95
_PAPER, _INK, _BAR = b"\xff\xff\xff\0", b"\x20\x20\x20\0", b"\xa0\x50\x20\0"


def _glyph(some: random.Random) -> list[bytes]:
    """Two stems and two bars somewhere, as letters have them."""
    ink = [[False] * GLYPH_WIDTH for _ in range(GLYPH_HEIGHT)]
    for _ in range(2):
        column, row = some.randrange(1, GLYPH_WIDTH - 1), some.randrange(3, 12)
        for y in range(row, 13):
            ink[y][column] = True
        for x in range(1, column):
            ink[row][x] = True
    return [b"".join(_INK if dark else _PAPER for dark in line) for line in ink]


def text() -> bytes:
    """A screen full of text under a bar: two colours nearly everywhere."""
    some = random.Random(1)
    glyphs = [_glyph(some) for _ in range(GLYPHS)]
    rows = [_BAR * WIDTH] * (HEIGHT % GLYPH_HEIGHT)
    for _ in range(HEIGHT // GLYPH_HEIGHT):
        words = some.randrange(40, WIDTH // GLYPH_WIDTH)
        line = [some.randrange(GLYPHS) for _ in range(words)]
        rest = _PAPER * (WIDTH - words * GLYPH_WIDTH)
        rows += [b"".join(glyphs[g][y] for g in line) + rest for y in range(GLYPH_HEIGHT)]
    return b"".join(rows)


def photograph() -> bytes:
    """Soft colours with the noise of a camera."""
    some = random.Random(2)
    rows = []
    for y in range(HEIGHT):
        noise = some.randbytes(WIDTH)
        base = y * 160 // HEIGHT
        rows.append(
            b"".join(
                bytes((base + (n & 7), x * 200 // WIDTH + (n >> 3 & 7), 40 + base // 2 + (n >> 6), 0))
                for x, n in enumerate(noise)
            )
        )
    return b"".join(rows)


def noise() -> bytes:
    """Nothing makes it smaller."""
    return random.Random(3).randbytes(WIDTH * HEIGHT * 4)


PICTURES = {"text": text, "photograph": photograph, "noise": noise}
