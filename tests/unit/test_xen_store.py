# SPDX-License-Identifier: MIT
"""XenStore's adapter against a daemon that ends at a bad moment; marks; the probe where there is no Xen."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("pyxs")
pytest.importorskip("vdesktop_xen._xen", reason="the extension is built for x86_64 hosts")

from vdesktop_xen import marks
from vdesktop_xen.hypervisor import XenHypervisor
from vdesktop_xen.store import PAYLOAD_MAX, Store, encode, missing

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Arch, VmSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# struct xsd_sockmsg (xen/io/xs_wire.h): type, request, transaction, length.
HEADER = struct.Struct("<IIII")
READ, WATCH, UNWATCH, WRITE, MKDIR, EVENT, ERROR = 2, 4, 5, 11, 12, 15, 16


class Daemon:
    """Answers one connection; :meth:`end` hangs up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[bytes, bytes] = {}
        self.asked: list[int] = []
        self.deaf = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._peer: socket.socket | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._peer, _ = self._listener.accept()
        except OSError:  # ended before anybody came
            return
        while head := self._exactly(HEADER.size):
            kind, request, transaction, length = HEADER.unpack(head)
            body = self._exactly(length)
            self.asked.append(kind)
            if not self.deaf:
                kind, answer = self._answer(kind, body)
                self._peer.sendall(HEADER.pack(kind, request, transaction, len(answer)) + answer)

    def _exactly(self, size: int) -> bytes:
        assert self._peer is not None
        data = b""
        while len(data) < size:
            try:
                piece = self._peer.recv(size - len(data))
            except OSError:
                return b""
            if not piece:
                return b""
            data += piece
        return data

    def _answer(self, kind: int, body: bytes) -> tuple[int, bytes]:
        path, _, value = body.partition(b"\0")
        if kind == READ:
            return (kind, self.values[path]) if path in self.values else (ERROR, b"ENOENT\0")
        if kind == WRITE:
            self.values[path] = value
        return kind, b"OK\0"

    def say(self, path: bytes) -> None:
        assert self._peer is not None
        body = path + b"\0vdesktop\0"
        self._peer.sendall(HEADER.pack(EVENT, 0, 0, len(body)) + body)

    def end(self) -> None:
        if self._peer is not None:
            with contextlib.suppress(OSError):
                self._peer.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self._listener.close()
        if self._peer is not None:
            self._peer.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "socket")
    yield daemon
    daemon.end()


def test_values_are_written_and_read(daemon: Daemon) -> None:
    with Store((daemon.path,)) as store:
        store.write({"/a": "1", "/b": ""})
        assert (store.read("/a"), store.read("/c")) == ("1", None)
    assert daemon.asked == [WRITE, MKDIR, READ, READ]


@pytest.mark.parametrize("value", ["a\0b", "x" * PAYLOAD_MAX])
def test_value_that_the_daemon_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(BackendError, match="XenStore cannot hold the"):
        encode("/path", value)


def test_name_of_other_letters_is_written_without_them() -> None:
    assert encode("/name", "Prüfling") == (b"/name", b"Pr?fling")


def test_daemon_that_ends_wakes_whoever_waits(daemon: Daemon) -> None:
    """pyxs alone would wait for ever, for the answer and for the next change."""
    lost, heard = threading.Event(), threading.Event()
    with Store((daemon.path,)) as store:
        store.watch(("/a",), lambda _path: heard.set(), lost.set)
        daemon.say(b"/a")
        assert heard.wait(30)
        daemon.deaf = True
        failed: list[str] = []

        def ask() -> None:
            with pytest.raises(BackendError) as error:
                store.read("/a")
            failed.append(str(error.value))

        asker = threading.Thread(target=ask)
        asker.start()
        while READ not in daemon.asked:
            pass
        daemon.end()
        asker.join(30)
        assert not asker.is_alive(), "it still waits"
        assert lost.wait(30)
        assert "is xenstored running?" in failed[0]
        with pytest.raises(BackendError, match="is xenstored running"):
            store.read("/a")


def test_close_ends_the_watch(daemon: Daemon) -> None:
    store = Store((daemon.path,))
    store.watch(("/a",), lambda _path: None, lambda: None)
    store.close()
    store.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "vd-xenstore"]


def test_daemon_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    nowhere = tmp_path / "socket"
    assert missing((nowhere,)).startswith(f"xenstored does not listen at {nowhere}")
    with pytest.raises(BackendError, match="start it"):
        Store((nowhere,))


def test_mark_of_a_process_that_lives_is_not_abandoned() -> None:
    mark = marks.mine()
    assert not marks.abandoned(mark)
    gone = mark[:12] + bytes(byte ^ 1 for byte in mark[12:])
    assert marks.abandoned(gone), "another process has its number"
    assert not marks.abandoned(mark[:4] + bytes(4) + gone[8:]), "numbers of another namespace mean nothing"
    assert not marks.abandoned(bytes(16))


@pytest.mark.host("a host that is not Xen's dom0")
def test_host_without_xen_is_one_line_with_advice() -> None:
    hypervisor = XenHypervisor()
    found = hypervisor.probe()
    if found.available:
        pytest.skip("this is a dom0")
    assert "\n" not in found.reason
    assert "boot it as Xen's dom0" in found.reason or "/dev/xen/privcmd" in found.reason
    with pytest.raises(BackendError):
        hypervisor.create(VmSpec(Arch.X86_64, 1))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (VmSpec(Arch.RISCV64, 1), "runs x86_64 guests here, not riscv64"),
        (VmSpec(Arch.X86_64, 1, options={"speed": 1}), "xen has no options"),
    ],
)
def test_machine_that_xen_does_not_run_is_one_line(spec: VmSpec, said: str) -> None:
    with pytest.raises(BackendError, match=said):
        XenHypervisor().create(spec)
