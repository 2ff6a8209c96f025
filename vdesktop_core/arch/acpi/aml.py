# SPDX-License-Identifier: MIT
"""An AML writer: functions from values to encoded terms (ACPI 6.5, chapters 20 and 6.4)."""

from __future__ import annotations

import struct

_PACKAGE_LENGTH_LIMIT = 1 << 28


def package_length(size: int) -> bytes:
    """Encode PkgLength for ``size`` bytes that follow it (§20.2.4); it counts itself too."""
    if size + 1 < 1 << 6:
        return bytes([size + 1])
    for extra in (1, 2, 3):
        total = size + 1 + extra
        if total < 1 << (4 + 8 * extra):
            tail = (total >> 4).to_bytes(extra, "little")
            return bytes([extra << 6 | total & 0xF]) + tail
    raise ValueError(f"an AML package of {size} bytes is longer than {_PACKAGE_LENGTH_LIMIT}")


def segment(name: str) -> bytes:
    r"""Encode one NameSeg: four characters, or ``\`` and four for the root."""
    root, bare = (b"\\", name[1:]) if name.startswith("\\") else (b"", name)
    padded = bare.ljust(4, "_") if bare else ""
    first_ok = padded[:1].isascii() and (padded[:1].isupper() or padded[:1] == "_")
    rest_ok = all(c.isascii() and (c.isupper() or c.isdigit() or c == "_") for c in padded)
    if len(padded) != 4 or not first_ok or not rest_ok:
        raise ValueError(f"{name!r} is not an ACPI name")
    return root + padded.encode()


def integer(value: int) -> bytes:
    """Encode a constant in its shortest form (§20.2.3)."""
    if value in (0, 1):
        return bytes([value])
    for prefix, code in ((0x0A, "<B"), (0x0B, "<H"), (0x0C, "<I"), (0x0E, "<Q")):
        if value < 1 << 8 * struct.calcsize(code):
            return bytes([prefix]) + struct.pack(code, value)
    raise ValueError(f"{value:#x} does not fit into 64 bits")


def string(value: str) -> bytes:
    """Encode a string."""
    data = value.encode("ascii")
    if b"\0" in data:
        raise ValueError(f"{value!r} contains a NUL")
    return b"\x0d" + data + b"\0"


def buffer(data: bytes) -> bytes:
    """Encode a buffer."""
    body = integer(len(data)) + data
    return b"\x11" + package_length(len(body)) + body


def package(*elements: bytes) -> bytes:
    """Encode a package of up to 255 elements."""
    body = bytes([len(elements)]) + b"".join(elements)
    return b"\x12" + package_length(len(body)) + body


def name(path: str, value: bytes) -> bytes:
    """Encode ``Name (path, value)``."""
    return b"\x08" + segment(path) + value


def method(name: str, arguments: int, *terms: bytes, serialized: bool = False) -> bytes:
    """Encode ``Method (name, arguments, [Not]Serialized) {…}``."""
    body = segment(name) + bytes([arguments | (1 << 3 if serialized else 0)]) + b"".join(terms)
    return b"\x14" + package_length(len(body)) + body


def memory_region(name: str, base: int, size: int) -> bytes:
    """Encode ``OperationRegion (name, SystemMemory, base, size)``."""
    return b"\x5b\x80" + segment(name) + b"\0" + integer(base) + integer(size)


def dword_field(region: str, *units: tuple[str, int]) -> bytes:
    """Encode ``Field (region, DWordAcc, NoLock, Preserve) {name, bits, …}``; at most 63 bits each."""
    if not all(0 < bits < 1 << 6 for _, bits in units):
        raise ValueError(f"{units} are not of 1 to 63 bits")
    body = segment(region) + b"\x03" + b"".join(segment(name) + bytes([bits]) for name, bits in units)
    return b"\x5b\x81" + package_length(len(body)) + body


#: Local variable 0 of a method.
LOCAL0 = b"\x60"


def store(value: bytes, target: bytes) -> bytes:
    """Encode ``Store (value, target)``."""
    return b"\x70" + value + target


def bit_and(left: bytes, right: bytes) -> bytes:
    """Encode ``And (left, right)``."""
    return b"\x7b" + left + right + b"\0"


def if_(predicate: bytes, *terms: bytes) -> bytes:
    """Encode ``If (predicate) {…}``."""
    body = predicate + b"".join(terms)
    return b"\xa0" + package_length(len(body)) + body


def return_(value: bytes) -> bytes:
    """Encode ``Return (value)``."""
    return b"\xa4" + value


def notify(target: bytes, value: int) -> bytes:
    """Encode ``Notify (target, value)``."""
    return b"\x86" + target + integer(value)


def scope(path: str, *terms: bytes) -> bytes:
    """Encode ``Scope (path) {…}``."""
    body = segment(path) + b"".join(terms)
    return b"\x10" + package_length(len(body)) + body


def device(path: str, *terms: bytes) -> bytes:
    """Encode ``Device (path) {…}``."""
    body = segment(path) + b"".join(terms)
    return b"\x5b\x82" + package_length(len(body)) + body


def eisa_id(text: str) -> bytes:
    """Encode ``EisaId (text)`` (§19.3.4): three letters, four hexadecimal digits."""
    letters, number = text[:3], int(text[3:], 16)
    if len(text) != 7 or not all("A" <= c <= "Z" for c in letters):
        raise ValueError(f"{text!r} is not an EISA id")
    a, b, c = (ord(letter) - 0x40 for letter in letters)
    return b"\x0c" + struct.pack(">I", a << 26 | b << 21 | c << 16 | number)


def resources(*descriptors: bytes) -> bytes:
    """Encode ``ResourceTemplate () {…}``: the descriptors and an end tag without a checksum (§6.4.2.9)."""
    return buffer(b"".join(descriptors) + b"\x79\0")


def memory32_fixed(base: int, size: int) -> bytes:
    """Encode ``Memory32Fixed (ReadWrite, base, size)`` (§6.4.3.4)."""
    return struct.pack("<BHBII", 0x86, 9, 1, base, size)


def io(base: int, size: int) -> bytes:
    """Encode ``IO (Decode16, base, base, 1, size)`` (§6.4.2.5)."""
    return struct.pack("<BBHHBB", 0x47, 1, base, base, 1, size)


def interrupt(line: int, *, level: bool, shared: bool) -> bytes:
    """Encode ``Interrupt (ResourceConsumer, …, ActiveHigh, …) { line }`` (§6.4.3.6)."""
    flags = 1 | (0 if level else 1 << 1) | (1 << 3 if shared else 0)
    return struct.pack("<BHBBI", 0x89, 6, flags, 1, line)
