# SPDX-License-Identifier: MIT
"""XenStore, by pyxs, as far as a domain's life needs it.

What pyxs 0.4 does not do, and what is done here about it:

* It watches over the daemon's unix socket only: that is what is used.
* Where the daemon ends, its router thread dies with a traceback, and whoever waits for an answer or an event
  waits for ever: :func:`_router` makes one that wakes all of them.
* Nothing wakes a thread that waits for events: an event of nothing does.
* Paths are bytes, values 7-bit and never empty: they are made so, and what the daemon cannot hold is
  refused here.
* It raises five kinds of exception: they become one, of one line.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vdesktop_core.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

log = logging.getLogger(__name__)

#: Where xenstored listens; the older place comes second.
SOCKETS = (Path("/run/xenstored/socket"), Path("/var/run/xenstored/socket"))
#: The daemon's XENSTORE_PAYLOAD_MAX (xen/io/xs_wire.h), in bytes: path and value together.
PAYLOAD_MAX = 4096
_TOKEN = b"vdesktop"


def missing(sockets: tuple[Path, ...] = SOCKETS) -> str:
    """Return why there is no XenStore, in one line, or an empty string."""
    if find_spec("pyxs") is None:
        return "pyxs is not installed: pip install 'vdesktop[xen]'"
    if not any(path.exists() for path in sockets):
        return f"xenstored does not listen at {sockets[0]}: start it (systemctl start xenstored)"
    return ""


def encode(path: str, value: str) -> tuple[bytes, bytes]:
    """Make a path and a value what the daemon takes; other than ASCII becomes question marks.

    Raises:
        BackendError: it cannot hold them.
    """
    raw_path, raw_value = path.encode("ascii", "replace"), value.encode("ascii", "replace")
    if b"\0" in raw_path or b"\0" in raw_value:
        raise BackendError(f"XenStore cannot hold the value of {path}: it has a NUL")
    if len(raw_path) + 1 + len(raw_value) > PAYLOAD_MAX:
        raise BackendError(f"XenStore cannot hold the {len(raw_value)} bytes of {path}: make them fewer")
    return raw_path, raw_value


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what pyxs raises into a BackendError of one line."""
    from pyxs import PyXSError

    try:
        yield
    except (PyXSError, OSError, EOFError, ValueError, AttributeError) as error:
        reason = str(error.args[-1]) if error.args else type(error).__name__
        raise BackendError(f"cannot {what} in XenStore: {reason}; is xenstored running?") from error


@contextlib.contextmanager
def _absent() -> Iterator[None]:
    """Pass over a path that is not there; pyxs' exceptions carry an errno and are no OSErrors."""
    from pyxs import PyXSError

    try:
        yield
    except PyXSError as error:
        if error.args[:1] != (errno.ENOENT,):
            raise


def _router(path: Path) -> Any:
    """Make a router whose end wakes everybody who waits for it."""
    import pyxs
    from pyxs._internal import Event, Op, Packet
    from pyxs.connection import UnixSocketConnection

    class Router(pyxs.Router):  # type: ignore[misc]
        ended = False

        def __call__(self) -> None:
            try:
                super().__call__()
            except Exception as error:  # noqa: BLE001 - whatever it is, the connection is gone
                log.debug("xenstored: %r", error)
            self.ended = True
            for answer in list(self.rvars.values()):
                self._fail(answer)
            for monitors in list(self.monitors.values()):
                for monitor in monitors:
                    monitor.events.put(Event(b"", b""))

        def send(self, packet: Any) -> Any:
            answer = super().send(packet)
            if self.ended:
                self._fail(answer)
            return answer

        @staticmethod
        def _fail(answer: Any) -> None:
            answer.set(Packet(Op.ERROR, b"EIO\0", rq_id=0, tx_id=0))

    return Router(UnixSocketConnection(str(path)))


class Store:
    """A connection to xenstored. Use it in a ``with`` statement.

    Args:
        sockets: where the daemon may listen.

    Raises:
        BackendError: it does not.
    """

    def __init__(self, sockets: tuple[Path, ...] = SOCKETS) -> None:
        if reason := missing(sockets):
            raise BackendError(reason)
        import pyxs

        self._closing = False
        self._watcher: threading.Thread | None = None
        self._monitor: Any = None
        with _told("log in"):
            self._router = _router(next(path for path in sockets if path.exists()))
            self._client: Any = pyxs.Client(router=self._router)
            self._client.connect()

    def write(self, values: Mapping[str, str]) -> None:
        """Write values by path; for an empty one, make the path if it is not there."""
        for path, value in values.items():
            with _told(f"write {path}"):
                if value:
                    self._client.write(*encode(path, value))
                else:
                    self._client.mkdir(path.encode())

    def clear(self, path: str) -> None:
        """Make a path's value empty, as who takes a request does with its node."""
        from pyxs._internal import NUL, Op

        with _told(f"clear {path}"):
            self._client.ack(Op.WRITE, encode(path, "")[0] + NUL)

    def read(self, path: str) -> str | None:
        """Return a value, None where there is none."""
        with _told(f"read {path}"), _absent():
            value: bytes = self._client.read(path.encode())
            return value.decode(errors="replace")
        return None

    def list(self, path: str) -> list[str]:
        """Return the names below a path; none where there is no such path."""
        with _told(f"list {path}"), _absent():
            return [name.decode() for name in self._client.list(path.encode()) if name]
        return []

    def delete(self, path: str) -> None:
        """Remove a path and all below it, if it is there."""
        with _told(f"remove {path}"), _absent():
            self._client.delete(path.encode())

    def allow(self, path: str, *permissions: str) -> None:
        """Set who owns, reads and writes a path: ``n5``, ``r0`` and the like, the owner first."""
        with _told(f"set the permissions of {path}"):
            self._client.set_perms(path.encode(), [permission.encode() for permission in permissions])

    def introduce(self, domain: int, frame: int, port: int) -> None:
        """Have the daemon serve a domain's ring."""
        with _told(f"introduce domain {domain}"):
            self._client.introduce_domain(domain, frame, port)

    def watch(
        self, paths: tuple[str, ...], on_change: Callable[[str], None], on_lost: Callable[[], None]
    ) -> None:
        """Hear of changes; once for each connection.

        Args:
            paths: what to watch: paths, or ``@releaseDomain``, which is said when any domain ends or shuts
                down. Each is said once when the watch begins.
            on_change: called with the path that changed, on a thread.
            on_lost: called when the daemon is gone, on that thread.
        """
        with _told("watch"):
            self._monitor = self._client.monitor()
            for path in paths:
                self._monitor.watch(path.encode(), _TOKEN)
        self._watcher = threading.Thread(
            target=self._listen, args=(on_change, on_lost), name="vd-xenstore", daemon=True
        )
        self._watcher.start()

    def _listen(self, on_change: Callable[[str], None], on_lost: Callable[[], None]) -> None:
        for path, _token in self._monitor.wait(unwatched=True):
            if self._closing:
                return
            if not path:
                on_lost()
                return
            on_change(path.decode(errors="replace"))

    def close(self) -> None:
        """Close the connection, and end the watch. Idempotent. Not from a watch's functions."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(OSError):
            self._router.terminate()
        if self._watcher is not None:
            self._watcher.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
