# SPDX-License-Identifier: MIT
"""A client of the control socket. It blocks, and imports no event loop: a command wants to be quick."""

from __future__ import annotations

import contextlib
import errno
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from vdesktop_core.control import protocol
from vdesktop_core.control.place import Folder, names
from vdesktop_core.errors import ControlError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from types import TracebackType

_T = TypeVar("_T")
#: Seconds that a machine has to answer, over what the request itself waits for.
PATIENCE = 30.0


class RefusedError(ControlError):
    """The machine did not do what it was asked to. ``kind`` is the word for programs."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class GoneError(ControlError):
    """The machine closed the connection."""


class Client:
    """A connection to a machine::

        with Client("debian") as machine:
            print(machine.call("status")["state"])

    Args:
        name: the machine's name.

    Raises:
        ControlError: no machine of this name runs, or it speaks another version of the protocol.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = _connect(name)
        self._in = bytearray()
        self._last_id = 0
        try:
            self.hello = self._greeted()
        except BaseException:
            self.close()
            raise

    def call(self, do: str, /, **fields: Any) -> Any:
        """Make a request, wait for its answer and return what it carries.

        Args:
            do: the request's name.
            fields: its fields; those that are None are left out.

        Raises:
            RefusedError: the machine did not do it.
            ControlError: the machine is gone, or does not answer.
        """
        self._last_id += 1
        given = {key: value for key, value in fields.items() if value is not None}
        line = msgspec.json.encode({"id": self._last_id, "do": do} | given) + b"\n"
        if len(line) > protocol.REQUEST_BYTES:
            raise ControlError(
                f"a request to machine {self.name!r} has at most {protocol.REQUEST_BYTES} bytes"
            )
        try:
            self._socket.sendall(line)
        except OSError as error:
            raise GoneError(f"machine {self.name!r} has gone: {error.strerror}") from error
        patience = PATIENCE + float(given.get("timeout") or protocol.SHUTDOWN_SECONDS)
        while True:
            message = self._read(dict[str, Any], patience)
            if "event" in message:
                continue
            if "error" in message:
                raise RefusedError(str(message["error"]), str(message.get("kind")))
            if message.get("id") == self._last_id:
                return message.get("ok")

    def events(self) -> Iterator[protocol.Event]:
        """Yield events from now on, until the machine is closed."""
        self.call("events")
        with contextlib.suppress(GoneError):
            while True:
                yield self._read(protocol.Event, None)

    def close(self) -> None:
        """Disconnect. Idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _greeted(self) -> protocol.Hello:
        hello = self._read(protocol.Hello, PATIENCE)
        if hello.version != protocol.VERSION:
            raise ControlError(
                f"machine {self.name!r} speaks version {hello.version} of the control protocol, this is "
                f"{protocol.VERSION}: use the vdesktop that runs it"
            )
        return hello

    def _read(self, kind: type[_T], patience: float | None) -> _T:
        line = self._line(patience)
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise ControlError(
                f"machine {self.name!r} answered with something else than this protocol"
            ) from error

    def _line(self, patience: float | None) -> bytes:
        deadline = None if patience is None else time.monotonic() + patience
        while (end := self._in.find(b"\n")) < 0:
            if len(self._in) > protocol.ANSWER_BYTES:
                raise ControlError(
                    f"machine {self.name!r} answers with more than {protocol.ANSWER_BYTES} bytes"
                )
            self._receive(deadline)
        line = bytes(self._in[:end])
        del self._in[: end + 1]
        return line

    def _receive(self, deadline: float | None) -> None:
        try:
            self._socket.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
            data = self._socket.recv(64 << 10)
        except TimeoutError as error:
            raise ControlError(
                f"machine {self.name!r} does not answer: its process is busy or stopped"
            ) from error
        except OSError as error:
            raise GoneError(f"machine {self.name!r} has gone: {error.strerror}") from error
        if not data:
            raise GoneError(f"machine {self.name!r} has gone")
        self._in += data


def _connect(name: str) -> socket.socket:
    try:
        with contextlib.closing(Folder(create=False)) as folder:
            return folder.connect(name, PATIENCE)
    except FileNotFoundError:
        pass
    except TimeoutError as error:
        raise ControlError(f"machine {name!r} does not answer: its process is busy or stopped") from error
    except OSError as error:
        if error.errno != errno.ECONNREFUSED:
            raise ControlError(f"cannot connect to machine {name!r}: {error.strerror}") from error
    running = ", ".join(names()) or "none"
    raise ControlError(f"no machine named {name!r} runs (running: {running})")
