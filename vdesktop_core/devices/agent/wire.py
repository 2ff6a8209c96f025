# SPDX-License-Identifier: MIT
"""The agent's protocol, as declared by ``spice/vd_agent.h`` of spice-protocol: framing and messages.

A byte stream of chunks, each for one of two *ports*; a port's chunks, put together, are messages. All
numbers are little-endian. What comes is the guest's and may be anything: every length is checked here, once,
and a message that is longer than what its kind may have is never held in memory.
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The console port that the guest's agent looks for.
PORT_NAME: Final = "com.redhat.spice.0"
#: ``VDIChunkHeader``: port, bytes that follow.
CHUNK: Final = struct.Struct("<II")
#: ``VDAgentMessage``: protocol, type, opaque, bytes that follow.
MESSAGE: Final = struct.Struct("<IIQI")
PROTOCOL: Final = 1
#: ``VD_AGENT_MAX_DATA_SIZE``: what an agent takes in one chunk at most.
CHUNK_BYTES: Final = 2048
#: ``VDP_CLIENT_PORT``: viewer and agent, the messages here; and ``VDP_SERVER_PORT``, which has none for us.
CLIENT_PORT, SERVER_PORT = 1, 2
_U32: Final = struct.Struct("<I")
_FILE_DATA: Final = struct.Struct("<IQ")
_PAIR: Final = struct.Struct("<II")
#: Types a grab may name, and words of capabilities: more than the protocol has.
_TYPES_MAX, _WORDS_MAX = 64, 32


class Kind(enum.IntEnum):
    """Messages: ``VD_AGENT_*``. Those that are not here are passed over."""

    CLIPBOARD = 4
    ANNOUNCE_CAPABILITIES = 6
    CLIPBOARD_GRAB = 7
    CLIPBOARD_REQUEST = 8
    CLIPBOARD_RELEASE = 9
    FILE_XFER_START = 10
    FILE_XFER_STATUS = 11
    FILE_XFER_DATA = 12
    CLIENT_DISCONNECTED = 13
    MAX_CLIPBOARD = 14


class Capability(enum.IntFlag):
    """What one side can: ``1 << VD_AGENT_CAP_*``."""

    CLIPBOARD_BY_DEMAND = 1 << 5
    CLIPBOARD_SELECTION = 1 << 6
    GUEST_LINEEND_CRLF = 1 << 9
    MAX_CLIPBOARD = 1 << 10
    FILE_XFER_DISABLED = 1 << 13
    FILE_XFER_DETAILED_ERRORS = 1 << 14
    CLIPBOARD_NO_RELEASE_ON_REGRAB = 1 << 16
    CLIPBOARD_GRAB_SERIAL = 1 << 17


class DataType(enum.IntEnum):
    """What a clipboard holds: ``VD_AGENT_CLIPBOARD_*``."""

    NONE = 0
    UTF8_TEXT = 1
    IMAGE_PNG = 2
    IMAGE_BMP = 3
    IMAGE_TIFF = 4
    IMAGE_JPG = 5


class FileResult(enum.IntEnum):
    """``VD_AGENT_FILE_XFER_STATUS_*``."""

    CAN_SEND_DATA = 0
    CANCELLED = 1
    ERROR = 2
    SUCCESS = 3
    NOT_ENOUGH_SPACE = 4
    SESSION_LOCKED = 5
    VDAGENT_NOT_CONNECTED = 6
    DISABLED = 7


#: ``VD_AGENT_CLIPBOARD_SELECTION_CLIPBOARD``: the one that "copy" fills; the others are X11's own.
SELECTION: Final = 0


class AgentProtocolError(Exception):
    """The guest's bytes are none of this protocol. The message says what is wrong with them."""


class Message(msgspec.Struct, frozen=True):
    """One message on the client port. ``data`` is None where it was too long to be kept."""

    kind: Kind
    data: bytes | None


class Capabilities(msgspec.Struct, frozen=True):
    """``VDAgentAnnounceCapabilities``. ``request``: the other side is to answer with its own."""

    request: bool
    has: Capability


class Grab(msgspec.Struct, frozen=True):
    """``VDAgentClipboardGrab``: somebody copied something. ``serial`` is None where there is none."""

    selection: int
    serial: int | None
    types: tuple[int, ...]


class Data(msgspec.Struct, frozen=True):
    """``VDAgentClipboard``: what was asked for. ``NONE``: it is not to be had."""

    selection: int
    kind: int
    data: bytes


class FileStatus(msgspec.Struct, frozen=True):
    """``VDAgentFileXferStatusMessage``: how a transfer goes."""

    transfer: int
    result: int


class _Assembly:
    """The messages of one port, out of its chunks."""

    def __init__(self, limits: dict[Kind, tuple[int, int]]) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._header: tuple[int, int] | None = None  # kind, bytes that are still to come of it
        self._skip = 0

    def feed(self, data: memoryview) -> Iterator[Message]:
        while data or (self._header is not None and not self._header[1]):
            if self._skip:
                taken = min(self._skip, len(data))
                self._skip -= taken
                data = data[taken:]
                continue
            wanted = MESSAGE.size if self._header is None else self._header[1]
            taken = min(wanted - len(self._buffer), len(data))
            self._buffer += data[:taken]
            data = data[taken:]
            if len(self._buffer) < wanted:
                return
            whole = bytes(self._buffer)
            self._buffer.clear()
            if self._header is None:
                yield from self._begin(whole)
            else:
                kind, self._header = self._header[0], None
                yield Message(Kind(kind), whole)

    def _begin(self, header: bytes) -> Iterator[Message]:
        protocol, number, _, size = MESSAGE.unpack(header)
        if protocol != PROTOCOL:
            raise AgentProtocolError(f"message of protocol {protocol}, not {PROTOCOL}")
        try:
            kind = Kind(number)
            least, most = self._limits[kind]
        except (ValueError, KeyError):
            self._skip = size  # a newer agent's, or one for somebody else
            return
        if size < least:
            raise AgentProtocolError(f"{kind.name} of {size} bytes: it has {least} at least")
        if size <= most:
            self._header = (kind, size)
            return
        if kind is not Kind.CLIPBOARD:
            raise AgentProtocolError(f"{kind.name} of {size} bytes: it has {most} at most")
        self._skip = size
        yield Message(kind, None)


class Parser:
    """Takes the guest's bytes as they come and returns whole messages.

    Memory is bounded by ``limit`` and a little: nothing longer is gathered.

    Args:
        limit: bytes of clipboard data in one message, at most.
    """

    def __init__(self, limit: int) -> None:
        self._limits = {
            Kind.ANNOUNCE_CAPABILITIES: (4, 4 + 4 * _WORDS_MAX),
            Kind.CLIPBOARD_GRAB: (0, 8 + 4 * _TYPES_MAX),
            Kind.CLIPBOARD_REQUEST: (4, 8),
            Kind.CLIPBOARD_RELEASE: (0, 4),  # 1 from spice-vdagentd, when its session changes
            Kind.CLIPBOARD: (4, 8 + limit),
            Kind.FILE_XFER_STATUS: (8, 8 + 4096),
        }
        self.reset()

    def reset(self) -> None:
        """Begin anew: what was gathered is forgotten."""
        self._header = bytearray()
        self._left = 0
        self._port: _Assembly | None = None
        # The server port's messages are put together and passed over.
        self._ports = {CLIENT_PORT: _Assembly(self._limits), SERVER_PORT: _Assembly({})}

    def feed(self, data: bytes | memoryview) -> Iterator[Message]:
        """Return the messages that these bytes complete.

        Raises:
            AgentProtocolError: they make no sense; :meth:`reset` before the next.
        """
        rest = memoryview(data)
        while rest:
            if not self._left:
                taken = min(CHUNK.size - len(self._header), len(rest))
                self._header += rest[:taken]
                rest = rest[taken:]
                if len(self._header) < CHUNK.size:
                    return
                number, self._left = CHUNK.unpack(self._header)
                self._header.clear()
                if number not in self._ports:
                    raise AgentProtocolError(f"chunk for port {number}")
                self._port = self._ports[number]
                continue
            assert self._port is not None  # noqa: S101 - for the type checker: set with _left
            taken = min(self._left, len(rest))
            self._left -= taken
            yield from self._port.feed(rest[:taken])
            rest = rest[taken:]


def encode(kind: Kind, *parts: bytes) -> Iterator[bytes]:
    """Return a message as chunks that an agent takes, each with its header."""
    body = memoryview(b"".join([MESSAGE.pack(PROTOCOL, kind, 0, sum(map(len, parts))), *parts]))
    for at in range(0, len(body), CHUNK_BYTES):
        piece = body[at : at + CHUNK_BYTES]
        yield CHUNK.pack(CLIENT_PORT, len(piece)) + piece


def encode_capabilities(capabilities: Capabilities) -> bytes:
    """Return the data of ``ANNOUNCE_CAPABILITIES``."""
    return _PAIR.pack(capabilities.request, capabilities.has)


def decode_capabilities(data: bytes) -> Capabilities:
    """Take ``ANNOUNCE_CAPABILITIES`` apart; bits that have no name here are passed over."""
    words = [word for (word,) in _U32.iter_unpack(data[4 : len(data) & ~3])]
    number = sum(word << (32 * place) for place, word in enumerate(words))
    known = Capability(0)
    for capability in Capability:
        if number & capability:
            known |= capability
    return Capabilities(request=_U32.unpack_from(data)[0] != 0, has=known)


class Codec:
    """Clipboard messages, whose layout depends on what both sides can.

    Args:
        has: capabilities that both sides announced.
    """

    def __init__(self, has: Capability) -> None:
        self.selection = Capability.CLIPBOARD_SELECTION in has
        self.serial = Capability.CLIPBOARD_GRAB_SERIAL in has

    def _prefix(self, selection: int) -> bytes:
        return bytes((selection, 0, 0, 0)) if self.selection else b""

    def _split(self, data: bytes, least: int) -> tuple[int, bytes]:
        if len(data) < least + 4 * self.selection:
            raise AgentProtocolError(f"clipboard message of {len(data)} bytes: too short")
        return (data[0], data[4:]) if self.selection else (SELECTION, data)

    def encode_grab(self, grab: Grab) -> bytes:
        """Return the data of ``CLIPBOARD_GRAB``."""
        serial = _U32.pack(grab.serial or 0) if self.serial else b""
        return self._prefix(grab.selection) + serial + struct.pack(f"<{len(grab.types)}I", *grab.types)

    def decode_grab(self, data: bytes) -> Grab:
        """Take ``CLIPBOARD_GRAB`` apart.

        Raises:
            AgentProtocolError: it is too short, or ends within a number.
        """
        selection, rest = self._split(data, 4 * self.serial)
        if len(rest) % 4:
            raise AgentProtocolError(f"CLIPBOARD_GRAB of {len(data)} bytes: not a list of numbers")
        numbers = tuple(number for (number,) in _U32.iter_unpack(rest))
        return Grab(selection, numbers[0], numbers[1:]) if self.serial else Grab(selection, None, numbers)

    def encode_request(self, selection: int, kind: int) -> bytes:
        """Return the data of ``CLIPBOARD_REQUEST``."""
        return self._prefix(selection) + _U32.pack(kind)

    def decode_request(self, data: bytes) -> tuple[int, int]:
        """Return the selection and the type that ``CLIPBOARD_REQUEST`` asks for.

        Raises:
            AgentProtocolError: it is too short.
        """
        selection, rest = self._split(data, 4)
        return selection, int(_U32.unpack_from(rest)[0])

    def decode_release(self, data: bytes) -> int:
        """Return the selection of ``CLIPBOARD_RELEASE``, which agents send with its padding or without."""
        return data[0] if self.selection and data else SELECTION

    def encode_release(self, selection: int) -> bytes:
        """Return the data of ``CLIPBOARD_RELEASE``."""
        return self._prefix(selection)

    def encode_data(self, data: Data) -> tuple[bytes, bytes]:
        """Return the data of ``CLIPBOARD``, in two parts."""
        return self._prefix(data.selection) + _U32.pack(data.kind), data.data

    def decode_data(self, data: bytes) -> Data:
        """Take ``CLIPBOARD`` apart.

        Raises:
            AgentProtocolError: it is too short.
        """
        selection, rest = self._split(data, 4)
        return Data(selection, int(_U32.unpack_from(rest)[0]), rest[4:])


def encode_max_clipboard(limit: int) -> bytes:
    """Return the data of ``MAX_CLIPBOARD``: bytes, signed in the protocol."""
    return _U32.pack(min(limit, 0x7FFFFFFF))


def encode_file_start(transfer: int, name: str, size: int) -> bytes:
    """Return the data of ``FILE_XFER_START``: a GKeyFile group that says what comes, with its NUL."""
    escaped = name.replace("\\", "\\\\")
    return _U32.pack(transfer) + f"[vdagent-file-xfer]\nname={escaped}\nsize={size}\n".encode() + b"\0"


def encode_file_status(transfer: int, result: FileResult) -> bytes:
    """Return the data of ``FILE_XFER_STATUS``."""
    return _PAIR.pack(transfer, result)


def decode_file_status(data: bytes) -> FileStatus:
    """Take ``FILE_XFER_STATUS`` apart; details after it are passed over."""
    return FileStatus(*_PAIR.unpack_from(data))


def file_data_header(transfer: int, size: int) -> bytes:
    """Return what ``FILE_XFER_DATA`` has before ``size`` bytes of the file."""
    return _FILE_DATA.pack(transfer, size)
