# SPDX-License-Identifier: MIT
"""What goes over a control socket: one JSON object a line, UTF-8, ended by a line feed.

The machine speaks first, with :class:`Hello`. Then every :class:`Request` is
answered by one :class:`Answer` or :class:`Failure` with its ``id``, in order;
:class:`Event` comes in between, to who asked for events. ``docs/control.md`` is
the reference for clients; a test holds it to this module.

A new request is a class here, with its fields, and a handler in
:mod:`vdesktop_core.control.handlers`. New optional fields, requests and events keep
:data:`VERSION`; anything that an old client would misread raises it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = 1
#: Longest line that either end accepts, in bytes, with its line feed.
REQUEST_BYTES = 64 << 10
ANSWER_BYTES = 1 << 20
#: Longest wait that a request may ask for, in seconds.
LONGEST_WAIT = 3600.0
#: How long a guest has, in seconds, where the request says nothing.
SHUTDOWN_SECONDS = 60.0
CHANGE_SECONDS = 30.0

Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=LONGEST_WAIT)]
#: A slot's number, or its device's name.
SlotName = Annotated[int, msgspec.Meta(ge=0, le=255)] | Annotated[str, msgspec.Meta(max_length=64)]

_Leaf = str | int | float | bool | None
#: What a key of a device's table may be: as deep as TOML written by people, and no deeper.
TableValue = _Leaf | list[_Leaf] | dict[str, _Leaf | list[_Leaf]]


class Hello(msgspec.Struct, frozen=True):
    """The machine's first line."""

    hello: str  #: ``vdesktop``
    version: int  #: of the protocol
    machine: str  #: its name
    pid: int


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="do"):
    """What all requests have. ``id`` is the client's to choose."""

    id: Id


class Status(Request, frozen=True, tag="status"):
    """Return the machine's state, CPUs and slots."""


class Stats(Request, frozen=True, tag="stats"):
    """Return all counters, by device."""


class Shutdown(Request, frozen=True, tag="shutdown"):
    """Ask the guest to power off; answered when it has, or has not within ``timeout``.

    With ``force``, the machine is ended then (at once, without ``timeout``).
    """

    timeout: Seconds | None = None
    force: bool = False


class Reset(Request, frozen=True, tag="reset"):
    """Reset the machine, as its reset button does; or with ``slot``, one device."""

    slot: SlotName | None = None


class Pause(Request, frozen=True, tag="pause"):
    """Stop the vCPUs."""


class Resume(Request, frozen=True, tag="resume"):
    """Let the vCPUs go on."""


class Plug(Request, frozen=True, tag="plug"):
    """Add a device; ``device`` has the keys of a ``[[device]]`` table. Returns its slot."""

    device: dict[str, TableValue]


class Unplug(Request, frozen=True, tag="unplug"):
    """Remove a device, by its slot or name, when the guest lets go of it; with ``force``, in any case."""

    slot: SlotName
    timeout: Seconds | None = None
    force: bool = False


class Cpus(Request, frozen=True, tag="cpus"):
    """Have the guest use this many CPUs."""

    count: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
    timeout: Seconds | None = None


class Screenshot(Request, frozen=True, tag="screenshot"):
    """Write what a screen shows to a PNG file of the machine's host. Returns its ``width`` and ``height``.

    ``screen`` counts the outputs of all display devices, from 0; ``path`` is absolute.
    """

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=4096, pattern="^/")]
    screen: Annotated[int, msgspec.Meta(ge=0, le=1 << 16)] = 0


class Events(Request, frozen=True, tag="events"):
    """Send this client events from now on."""


REQUESTS = (Status, Stats, Shutdown, Reset, Pause, Resume, Plug, Unplug, Cpus, Screenshot, Events)
AnyRequest = Status | Stats | Shutdown | Reset | Pause | Resume | Plug | Unplug | Cpus | Screenshot | Events


class Answer(msgspec.Struct, frozen=True):
    """What a request returned."""

    id: int
    ok: Any


class Failure(msgspec.Struct, frozen=True):
    """Why a request was not done: ``error`` is one line for a person, ``kind`` a word for a program.

    ``id`` is null where the request had none that could be read.
    """

    id: int | None
    error: str
    kind: str


class Event(msgspec.Struct, frozen=True):
    """Something happened to the machine."""

    event: str
    detail: dict[str, Any] = {}


class _Id(msgspec.Struct, frozen=True):
    id: Id


_decode_request: Callable[[bytes | bytearray | memoryview], AnyRequest] = msgspec.json.Decoder(
    AnyRequest
).decode
_decode_id = msgspec.json.Decoder(_Id).decode
_encode = msgspec.json.encode


class BadRequestError(Exception):
    """A line that is no request. ``id`` is its id, if it has one."""

    def __init__(self, message: str, number: int | None) -> None:
        super().__init__(message)
        self.id = number


def parse_request(line: bytes | bytearray | memoryview) -> AnyRequest:
    """Read a request from a line.

    Raises:
        BadRequestError: it is none; the message is one line.
    """
    try:
        return _decode_request(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequestError(f"not a request: {_one_line(error)}", _id_of(line)) from error


def _id_of(line: bytes | bytearray | memoryview) -> int | None:
    try:
        return _decode_id(line).id
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _one_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    # What the client sent may be quoted: nothing of it may end the line or steer a terminal.
    return "".join(c if c.isprintable() else "?" for c in str(error))[:500]


def pack(message: msgspec.Struct) -> bytes:
    """Write a message as a line."""
    return _encode(message) + b"\n"
