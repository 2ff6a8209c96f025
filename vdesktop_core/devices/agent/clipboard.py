# SPDX-License-Identifier: MIT
"""The guest's clipboard behind the agent: GRAB says what was copied, REQUEST asks, CLIPBOARD has it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from vdesktop_core.devices.agent.link import AgentGone
from vdesktop_core.devices.agent.wire import SELECTION, Codec, Data, DataType, Grab, Kind
from vdesktop_core.display.clipboard import BMP, JPEG, PNG, TEXT, TIFF

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vdesktop_core.devices.agent.link import AgentLink
    from vdesktop_core.display.clipboard import ClipboardOffer

log = logging.getLogger(__name__)
#: Bytes of a piece of data that is kept for the next time: text of any length that people read.
KEEP_BYTES: Final = 1 << 20
#: Seconds a viewer has to give what the guest pastes; the guest's program waits that long.
_VIEWER_SECONDS: Final = 30
_MEDIA: Final = {
    DataType.UTF8_TEXT: TEXT,
    DataType.IMAGE_PNG: PNG,
    DataType.IMAGE_BMP: BMP,
    DataType.IMAGE_TIFF: TIFF,
    DataType.IMAGE_JPG: JPEG,
}
_TYPES: Final = {media: kind for kind, media in _MEDIA.items()} | {"text/plain": DataType.UTF8_TEXT}


def data_type(media_type: str) -> DataType | None:
    """Return the agent's type for a media type, or None: it has none. Agents know no HTML."""
    name, _, parameter = media_type.lower().replace(" ", "").partition(";")
    if name == "text/plain" and parameter not in ("", "charset=utf-8"):
        return None
    return _TYPES.get(name)


class GuestOffer:
    """What the guest has copied; a :class:`~vdesktop_core.display.clipboard.ClipboardOffer`.

    Data is asked for once, whoever and how many want it, one type at a time; small data is kept.
    """

    def __init__(self, clipboard: AgentClipboard, kinds: Sequence[DataType]) -> None:
        self._clipboard = clipboard
        self._kinds = {_MEDIA[kind]: kind for kind in kinds}
        self._kept: dict[DataType, bytes] = {}
        self._turn = asyncio.Lock()
        self._asked: tuple[DataType, asyncio.Future[bytes | None]] | None = None
        self._gone = False

    @property
    def types(self) -> Sequence[str]:
        """See ClipboardOffer."""
        return tuple(self._kinds)

    async def read(self, media_type: str, limit: int) -> bytes | None:
        """See ClipboardOffer."""
        kind = data_type(media_type)
        if kind is None or kind not in self._kinds.values():
            return None
        async with self._turn:
            data = self._kept.get(kind)
            if data is None and not self._gone:
                data = await self._ask(kind)
        return data if data is not None and len(data) <= limit else None

    async def _ask(self, kind: DataType) -> bytes | None:
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._asked = (kind, answer)
        self._clipboard.request(kind)
        try:
            data = await answer
        finally:
            self._asked = None
        if data is not None and len(data) <= KEEP_BYTES:
            self._kept[kind] = data
        return data

    def answered(self, kind: int, data: bytes | None) -> None:
        """Take what the agent sends; what nobody asked for is dropped. No data: it is not to be had."""
        if self._asked is None or self._asked[1].done() or kind not in (self._asked[0], DataType.NONE):
            return
        self._asked[1].set_result(data if kind and data else None)

    def is_gone(self) -> None:
        """There is nothing more to be had than what is kept."""
        self._gone = True
        self.answered(DataType.NONE, None)


class AgentClipboard:
    """Both directions; a :class:`~vdesktop_core.display.clipboard.Clipboard`.

    Args:
        link: to the agent.
        to_guest: whether offers of the host's go to the guest.
        to_host: whether offers of the guest's go to viewers.
        limit: bytes of one piece of data at most.
    """

    def __init__(self, link: AgentLink, *, to_guest: bool, to_host: bool, limit: int) -> None:
        self._link = link
        self.to_guest = to_guest
        self.to_host = to_host
        self.limit = limit
        self._codec: Codec | None = None  # None: there is no agent
        self._crlf = False
        self._serial = 0
        self._listeners: list[Callable[[ClipboardOffer | None], None]] = []
        self._guest: GuestOffer | None = None
        self._host: ClipboardOffer | None = None
        self._kept: dict[DataType, bytes] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._wanted: dict[DataType, None] = {}  # what the guest asked for, in that order
        self._answering: asyncio.Task[None] | None = None
        self._counters = {"clipboard_to_guest": 0, "clipboard_to_host": 0, "clipboard_refused": 0}

    # What viewers call.

    def offer(self, offer: ClipboardOffer | None) -> None:
        """See Clipboard."""
        if not self.to_guest:
            return
        self._drop_host()
        if offer is not None and any(data_type(media) for media in offer.types):
            self._host = offer
            self._keeping = asyncio.get_running_loop().create_task(self._keep(offer))
            self._set_guest(None)
        self._link.post("grab", self._grab)

    def on_offer(self, offered: Callable[[ClipboardOffer | None], None]) -> Callable[[], None]:
        """See Clipboard."""
        self._listeners.append(offered)
        if self._guest is not None:
            offered(self._guest)

        def stop() -> None:
            if offered in self._listeners:
                self._listeners.remove(offered)

        return stop

    # What the agent causes.

    def session_began(self, codec: Codec, *, crlf: bool) -> None:
        """There is an agent that knows clipboards."""
        self._codec = codec
        self._crlf = crlf
        self._serial = 0
        if self._host is not None:
            self._link.post("grab", self._grab)

    def session_ended(self) -> None:
        """There is none: what it offered is gone, what it asked for is of no use."""
        self._codec = None
        self._wanted.clear()
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None
        self._set_guest(None)

    def heard(self, kind: Kind, data: bytes) -> None:
        """Take a clipboard message. Raises AgentProtocolError: it makes no sense."""
        if self._codec is None:
            return
        match kind:
            case Kind.CLIPBOARD_GRAB:
                self._grabbed(self._codec.decode_grab(data))
            case Kind.CLIPBOARD_RELEASE:
                if self._codec.decode_release(data) == SELECTION:
                    self._set_guest(None)
            case Kind.CLIPBOARD_REQUEST:
                self._requested(*self._codec.decode_request(data))
            case Kind.CLIPBOARD:
                self._answered(self._codec.decode_data(data))

    def too_long(self) -> None:
        """What was asked for came, and is longer than the limit."""
        self._counters["clipboard_refused"] += 1
        if self._guest is not None:
            self._guest.answered(DataType.NONE, None)

    def request(self, kind: DataType) -> None:
        """Ask the agent for what it offered."""

        def make() -> tuple[Kind, tuple[bytes, ...]] | None:
            if self._codec is None:
                return None
            return Kind.CLIPBOARD_REQUEST, (self._codec.encode_request(SELECTION, kind),)

        self._link.post("request", make)

    def counters(self) -> Mapping[str, int]:
        """Pieces of data that passed, and requests that came to nothing."""
        return dict(self._counters)

    def _grabbed(self, grab: Grab) -> None:
        if grab.selection != SELECTION or not self.to_host:
            return
        if grab.serial is not None:
            if grab.serial + 1 == self._serial and self._host is not None:
                return  # both copied at the same time: this side wins, as the agent has it
            self._serial = grab.serial + 1 & 0xFFFFFFFF
        kinds = [DataType(number) for number in dict.fromkeys(grab.types) if number in _MEDIA]
        self._drop_host()
        self._set_guest(GuestOffer(self, kinds) if kinds else None)

    def _answered(self, data: Data) -> None:
        if data.selection != SELECTION or self._guest is None:
            return
        content: bytes | None = data.data
        if len(data.data) > self.limit:
            self.too_long()
            return
        if data.kind == DataType.UTF8_TEXT:
            text = data.data.rstrip(b"\0").decode("utf-8", "replace")
            content = (text.replace("\r\n", "\n") if self._crlf else text).encode()
        self._counters["clipboard_to_host"] += bool(data.kind and content)
        self._guest.answered(data.kind, content)

    def _set_guest(self, offer: GuestOffer | None) -> None:
        before, self._guest = self._guest, offer
        if before is not None:
            before.is_gone()
        if before is not None or offer is not None:
            for listener in list(self._listeners):
                listener(offer)

    # What the guest is told and given.

    def _grab(self) -> tuple[Kind, tuple[bytes, ...]] | None:
        if self._codec is None:
            return None
        if self._host is None:
            return Kind.CLIPBOARD_RELEASE, (self._codec.encode_release(SELECTION),)
        kinds = dict.fromkeys(kind for media in self._host.types if (kind := data_type(media)))
        grab = Grab(SELECTION, self._serial, tuple(kinds))
        self._serial = self._serial + 1 & 0xFFFFFFFF
        return Kind.CLIPBOARD_GRAB, (self._codec.encode_grab(grab),)

    def _drop_host(self) -> None:
        self._host = None
        self._kept.clear()
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None

    async def _keep(self, offer: ClipboardOffer) -> None:
        """Have the text at hand for the time when the viewer is gone."""
        await self._host_data(offer, DataType.UTF8_TEXT, min(self.limit, KEEP_BYTES))

    async def _host_data(self, offer: ClipboardOffer, kind: DataType, limit: int) -> bytes | None:
        if offer is self._host and kind in self._kept:
            return self._kept[kind]
        media = next((media for media in offer.types if data_type(media) is kind), None)
        if media is None:
            return None
        try:
            async with asyncio.timeout(_VIEWER_SECONDS):
                data = await offer.read(media, limit)
        except TimeoutError:
            return None
        except Exception:
            # A front-end is a plugin: its mistakes must not take the clipboard from the others.
            log.exception("a viewer's clipboard offer failed")
            return None
        if data is None or len(data) > limit:
            return None
        if offer is self._host and len(data) <= KEEP_BYTES:
            self._kept[kind] = data
        return data

    def _requested(self, selection: int, number: int) -> None:
        if selection != SELECTION or number not in _MEDIA or not self.to_guest or self._host is None:
            self._refuse(selection)
            return
        self._wanted[DataType(number)] = None
        if self._answering is None:
            self._answering = asyncio.get_running_loop().create_task(self._answer())

    def _refuse(self, selection: int) -> None:
        def make() -> tuple[Kind, tuple[bytes, ...]] | None:
            if self._codec is None:
                return None
            return Kind.CLIPBOARD, self._codec.encode_data(Data(selection, DataType.NONE, b""))

        self._counters["clipboard_refused"] += 1
        self._link.post(("none", selection), make)

    async def _answer(self) -> None:
        while self._wanted and self._codec is not None:
            kind = next(iter(self._wanted))
            offer = self._host
            data = await self._host_data(offer, kind, self.limit) if offer is not None else None
            self._wanted.pop(kind, None)
            if data is None or offer is not self._host:
                self._refuse(SELECTION)
                continue
            if kind is DataType.UTF8_TEXT and self._crlf:
                data = data.replace(b"\n", b"\r\n")
            try:
                await self._link.send(Kind.CLIPBOARD, *self._codec.encode_data(Data(SELECTION, kind, data)))
            except AgentGone:
                break
            self._counters["clipboard_to_guest"] += 1
        self._answering = None
