# SPDX-License-Identifier: MIT
"""A client's clipboard and the guest's: plain cut texts, and rfbproto's "Extended Clipboard"."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import struct
import zlib
from typing import TYPE_CHECKING, Final

from vdesktop_core.display.clipboard import HTML, TEXT, Copied

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from vdesktop_core.display.clipboard import Clipboard, ClipboardOffer

_SERVER_CUT_TEXT: Final = 3
#: Bytes of a compressed message that the native side takes (``CUT_TEXT_MAX`` of wire.h), and we send.
_MESSAGE_MAX: Final = 4 << 20
#: Seconds that a client may take to say what it has copied.
_PATIENCE: Final = 30


class Flag(enum.IntFlag):
    """Of an extended message: formats, and what it is about."""

    TEXT = 1 << 0
    HTML = 1 << 2
    CAPS = 1 << 24
    REQUEST = 1 << 25
    PEEK = 1 << 26
    NOTIFY = 1 << 27
    PROVIDE = 1 << 28


FORMATS: Final = {Flag.TEXT: TEXT, Flag.HTML: HTML}
_ALL: Final = Flag.TEXT | Flag.HTML
_ACTIONS: Final = Flag.CAPS | Flag.REQUEST | Flag.PEEK | Flag.NOTIFY | Flag.PROVIDE


def to_wire(media_type: str, data: bytes) -> bytes:
    """Return data as a message has it: lines of text end with CR LF, the text with a NUL."""
    return data.replace(b"\n", b"\r\n") + b"\0" if media_type == TEXT else data


def from_wire(media_type: str, data: bytes) -> bytes:
    """The opposite of :func:`to_wire`."""
    return data.replace(b"\r\n", b"\n").removesuffix(b"\0") if media_type == TEXT else data


def pack(data: dict[str, bytes]) -> bytes:
    """Return a "provide" message's flags and data."""
    flags, body = Flag.PROVIDE, b""
    for flag, media_type in FORMATS.items():
        if media_type in data:
            wire = to_wire(media_type, data[media_type])
            flags |= flag
            body += struct.pack(">I", len(wire)) + wire
    return struct.pack(">I", flags) + zlib.compress(body, 1)


def unpack(flags: Flag, packed: bytes, limit: int) -> dict[str, bytes]:
    """Return what a "provide" message has, by media type; what is longer than ``limit`` is left out.

    Raises:
        ValueError: it is broken, or longer than anything that makes sense.
    """
    # Line ends may double a text.
    most = len(FORMATS) * (2 * limit + 8)
    stream = zlib.decompressobj()
    try:
        body = stream.decompress(packed, most)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    data: dict[str, bytes] = {}
    at = 0
    for bit in range(16):
        if not flags & (1 << bit):
            continue
        if len(body) - at < 4:
            break  # cut off by the bound, or by the client
        (length,) = struct.unpack_from(">I", body, at)
        piece = body[at + 4 : at + 4 + length]
        at += 4 + length
        media_type = FORMATS.get(Flag(1 << bit))
        if media_type is None or len(piece) < length:
            continue
        piece = from_wire(media_type, piece)
        if len(piece) <= limit:
            data[media_type] = piece
    return data


class _ClientOffer:
    """What a client has copied, and says when it is asked."""

    def __init__(self, formats: Flag, ask: Callable[[Flag], None]) -> None:
        self.types: Sequence[str] = [name for flag, name in FORMATS.items() if formats & flag]
        self._ask = ask
        self._waiting: dict[str, list[asyncio.Future[bytes | None]]] = {}

    async def read(self, media_type: str, limit: int) -> bytes | None:
        if media_type not in self.types:
            return None
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(media_type, []).append(future)
        self._ask(next(flag for flag, name in FORMATS.items() if name == media_type))
        data = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                data = await future
        return data if data is not None and len(data) <= limit else None

    def provide(self, data: dict[str, bytes], asked: Sequence[str]) -> bool:
        """Give it to who waits; False: nobody does."""
        waited = False
        for media_type in asked:
            for future in self._waiting.pop(media_type, ()):
                if not future.done():
                    waited = True
                    future.set_result(data.get(media_type))
        return waited

    def end(self) -> None:
        """The client has gone, or has copied something else."""
        self.provide({}, [*self._waiting])


class ClientClipboard:
    """One client's. Control loop only.

    Args:
        clipboard: the guest's.
        send: sends a message to the client; what does not arrive is its loss.
    """

    def __init__(self, clipboard: Clipboard, send: Callable[[bytes], None]) -> None:
        self._clipboard = clipboard
        self._send_message = send
        self._extended: bool | None = None  # not known yet
        self._guest: ClipboardOffer | None = None
        self._client: _ClientOffer | None = None
        self._stop: Callable[[], None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def _limit(self) -> int:
        return min(self._clipboard.limit, _MESSAGE_MAX)

    def capable(self, *, extended: bool) -> None:
        """The client has said what it understands, perhaps again."""
        if extended and not self._extended:
            sizes = struct.pack(">II", self._limit, self._limit)
            self._send(struct.pack(">I", _ALL | _ACTIONS) + sizes)
        self._extended = extended
        if self._stop is None:
            self._stop = self._clipboard.on_offer(self._offered)

    def message(self, data: bytes, *, extended: bool) -> None:
        """The client's cut text, or extended message.

        Raises:
            ValueError: it makes no sense.
        """
        if not extended:
            text = data.decode("latin-1").replace("\r\n", "\n").encode()
            self._replace(None)
            self._clipboard.offer(Copied({TEXT: text}) if len(text) <= self._limit else None)
            return
        if len(data) < 4:
            raise ValueError("a clipboard message without flags")
        flags = Flag(struct.unpack_from(">I", data)[0])
        if flags & Flag.CAPS:
            return  # its sizes are for what comes unasked: nothing does
        if flags & Flag.REQUEST:
            self._start(self._provide(flags))
        elif flags & Flag.PEEK:
            self._notify()
        elif flags & Flag.NOTIFY:
            formats = flags & _ALL
            self._replace(_ClientOffer(formats, self._ask) if formats else None)
            self._clipboard.offer(self._client)
        elif flags & Flag.PROVIDE:
            provided = unpack(flags, data[4:], self._limit)
            asked = [name for flag, name in FORMATS.items() if flags & flag]
            if (self._client is None or not self._client.provide(provided, asked)) and provided:
                self._replace(None)
                self._clipboard.offer(Copied(provided))

    def close(self) -> None:
        """The client has gone. Idempotent."""
        if self._stop is not None:
            self._stop()
            self._stop = None
        self._replace(None)
        for task in self._tasks:
            task.cancel()

    def _replace(self, offer: _ClientOffer | None) -> None:
        if self._client is not None:
            self._client.end()
        self._client = offer

    def _ask(self, formats: Flag) -> None:
        self._send(struct.pack(">I", Flag.REQUEST | formats))

    def _offered(self, offer: ClipboardOffer | None) -> None:
        self._guest = offer
        if self._extended:
            self._notify()
        elif offer is not None:
            self._start(self._send_plain(offer))

    def _notify(self) -> None:
        types = () if self._guest is None else self._guest.types
        formats = sum(flag for flag, name in FORMATS.items() if name in types)
        self._send(struct.pack(">I", Flag.NOTIFY | formats))

    async def _provide(self, wanted: Flag) -> None:
        offer, data = self._guest, {}
        for flag, media_type in FORMATS.items():
            if offer is not None and wanted & flag and media_type in offer.types:
                piece = await offer.read(media_type, self._limit)
                if piece is not None:
                    data[media_type] = piece
        if data and self._clipboard.to_host:
            self._send(pack(data))

    async def _send_plain(self, offer: ClipboardOffer) -> None:
        data = await offer.read(TEXT, self._limit) if TEXT in offer.types else None
        if data is not None and offer is self._guest:
            text = data.decode(errors="replace").encode("latin-1", errors="replace")
            self._send_message(struct.pack(">BxxxI", _SERVER_CUT_TEXT, len(text)) + text)

    def _send(self, body: bytes) -> None:
        """An extended message has its length negated."""
        self._send_message(struct.pack(">Bxxxi", _SERVER_CUT_TEXT, -len(body)) + body)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
