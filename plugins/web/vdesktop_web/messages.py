# SPDX-License-Identifier: MIT
"""What a page and its machine say to each other on the channel, ``docs/web.md``.

Text messages are JSON objects, told apart by ``type``. Binary ones are a :data:`HEADER` and data.
"""

from __future__ import annotations

import enum
import struct
from typing import Annotated

import msgspec

from vdesktop_core.display.files import NAME_BYTES
from vdesktop_core.display.input import ABSOLUTE_MAX, TOUCH_SLOTS, TouchPhase

#: Bytes of data in one binary message, at most.
CHUNK = 64 << 10
#: Bytes of one text message, at most.
TEXT_LIMIT = 32 << 10
#: Of a binary message: :class:`Kind`, :class:`Flags`, zero, and the id that the data is for.
HEADER = struct.Struct("<BBHI")

Id = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
Position = Annotated[int, msgspec.Meta(ge=0, le=ABSOLUTE_MAX)]
MediaType = Annotated[str, msgspec.Meta(max_length=128)]


class Kind(enum.IntEnum):
    """What a binary message's data is part of."""

    CLIPBOARD = 1
    FILE = 2


class Flags(enum.IntFlag):
    """What there is to know of it."""

    LAST = 1  #: no more of it follows
    FAILED = 2  #: it is not to be had


class _Message(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower):
    pass


class Point(msgspec.Struct, frozen=True):
    """A finger, as :class:`vdesktop_core.display.input.Touch` has it."""

    phase: TouchPhase
    slot: Annotated[int, msgspec.Meta(ge=0, lt=TOUCH_SLOTS)]
    x: Position
    y: Position


class Touch(_Message, frozen=True):
    """Page: fingers that moved at once."""

    points: Annotated[list[Point], msgspec.Meta(max_length=TOUCH_SLOTS)]


class Offer(_Message, frozen=True):
    """Both: this has been copied; no types: nothing any more."""

    types: Annotated[list[MediaType], msgspec.Meta(max_length=16)]


class Read(_Message, frozen=True):
    """Both: send what you offered as ``media``, with this id. Ids are the asking side's."""

    id: Id
    media: MediaType


class File(_Message, frozen=True):
    """Page: a file for the machine. Its pieces follow as far as there is credit."""

    id: Id
    name: Annotated[str, msgspec.Meta(max_length=4 * NAME_BYTES)]
    size: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class Cancel(_Message, frozen=True):
    """Page: never mind that file."""

    id: Id


class Hello(_Message, frozen=True):
    """Machine, first: what it has."""

    channel: int  #: pictures are to be had at ``rfb/CHANNEL``
    machine: str
    touch: bool
    files: bool
    to_guest: bool  #: whether the clipboard goes there
    to_host: bool


class Credit(_Message, frozen=True):
    """Machine: send so many bytes more of that file."""

    id: Id
    bytes: int


class Ended(_Message, frozen=True):
    """Machine: that file's copying is over."""

    id: Id
    state: str  #: ``done``, ``cancelled`` or ``failed``
    detail: str = ""


class Status(_Message, frozen=True):
    """Machine, each second: what this page's pictures cost in the last one."""

    frames: int
    bytes: int
    viewers: int


FromPage = Touch | Offer | Read | File | Cancel
ToPage = Hello | Offer | Read | Credit | Ended | Status
