# SPDX-License-Identifier: MIT
"""A ``qemu-nbd`` that serves one disk image to us, and ends with us."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.blk.store import CacheMode, DiskOptions, DiskStore, open_image
from vdesktop_core.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

#: Seconds a server may take to open its image, and to write everything back at the end.
START_TIMEOUT = 30.0
STOP_TIMEOUT = 60.0
#: Seconds it may take to end after it dropped a connection because the image is bad.
END_GRACE = 2.0
_POLL = 0.002
_MESSAGE_LEN = 256


def serve(form: str, path: Path, options: DiskOptions) -> DiskStore:
    """Start a server for an image and connect to it; see :meth:`DiskFormat.open`.

    Args:
        form: the image's format, as ``qemu-img -f`` knows it.
        path: the image.
        options: how to open it.
    """
    os.close(open_image(path, readonly=options.readonly))
    program = shutil.which("qemu-nbd")
    if program is None:
        raise DeviceError(
            f"disk {path}: {form} images need qemu-nbd: install qemu-utils (Debian, Ubuntu) "
            f"or qemu-img (Fedora)"
        )
    # The socket is gone once connected: it has one user, and so nothing is left behind.
    with tempfile.TemporaryDirectory(prefix="vdesktop-nbd-", ignore_cleanup_errors=True) as folder:
        socket = Path(folder, "socket")
        server = Server(path, _command(form, program, path, socket, options))
        try:
            store = _connect(form, path, socket, server, options)
        except BaseException:
            server.kill()
            raise
    return ServedStore(store, server)


def _command(form: str, program: str, path: Path, socket: Path, options: DiskOptions) -> list[str]:
    command = [
        program,
        f"--format={form}",
        f"--socket={socket}",
        f"--shared={options.connections}",
        f"--cache={'none' if options.cache is CacheMode.NONE else 'writeback'}",
        f"--discard={'unmap' if options.discard else 'ignore'}",
    ]
    if options.readonly:
        command.append("--read-only")
    # Absolute: QEMU takes what stands before a colon in a relative name for a protocol.
    command += ["--", str(path.absolute())]
    # It also ends when its last client goes; this covers our death before the first connection.
    if setpriv := shutil.which("setpriv"):
        command = [setpriv, "--pdeathsig", "TERM", *command]
    return command


def _connect(form: str, path: Path, socket: Path, server: Server, options: DiskOptions) -> int:
    """Return the address of a store that is connected to the server."""
    deadline = time.monotonic() + START_TIMEOUT
    message = ffi.new("char[]", _MESSAGE_LEN)
    while not server.ended:
        if socket.exists():
            store = lib.vd_blk_nbd_open(
                ffi.cast("struct vd_host *", options.host),
                str(socket).encode(),
                options.connections,
                options.readonly,
                message,
                _MESSAGE_LEN,
            )
            if store != ffi.NULL:
                return int(ffi.cast("uintptr_t", store))
            text = ffi.string(message).decode(errors="replace")
            if "refused" not in text:  # else: bound, but not listening yet
                if server.ends_within(END_GRACE):  # it listens before it opens the image
                    break
                raise DeviceError(f"disk {path}: {text}")
        if time.monotonic() > deadline:
            raise DeviceError(f"disk {path}: qemu-nbd did not open it within {START_TIMEOUT:g} s")
        time.sleep(_POLL)
    raise DeviceError(_explain(form, path, server.complaint()))


def _explain(form: str, path: Path, complaint: str) -> str:
    """Turn what qemu-nbd said last into our one line."""
    if '" lock' in complaint:
        return f"disk {path} is in use by another machine or process: stop that one first, or use a copy"
    if f"not in {form} format" in complaint:
        return f"disk {path} is not a {form} image: name its format with format="
    return f"disk {path} cannot be opened as {form}: {complaint or 'qemu-nbd gave no reason'}"


class Server:
    """A running ``qemu-nbd``.

    A thread of its own starts it and waits for it: the signal that ends it with
    us (``PDEATHSIG``) is bound to the life of the thread that started it.
    """

    def __init__(self, path: Path, command: Sequence[str]) -> None:
        self._path = path
        self._started = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: OSError | None = None
        self._serving = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed when the server is waited for)
        self._thread = threading.Thread(target=self._keep, args=(command,), name="qemu-nbd", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._errors.close()
            raise DeviceError(f"cannot start {command[0]}: {self._failure.strerror}") from self._failure

    def _keep(self, command: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is ours: we end the server when the device has flushed
            )
        except OSError as error:
            self._failure = error
            return
        finally:
            self._started.set()
        status = self._process.wait()
        if self._serving:
            log.error(
                "qemu-nbd of %s ended with status %d: %s; the disk fails from now on",
                self._path,
                status,
                self.complaint(),
            )

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return not self._thread.is_alive()

    def ends_within(self, seconds: float) -> bool:
        """Whether the process goes in that time."""
        self._thread.join(seconds)
        return self.ended

    def complaint(self) -> str:
        """Return what it said on standard error, as one line."""
        # Not read(): the position in the file is shared with the process.
        lines = os.pread(self._errors.fileno(), 4096, 0).decode(errors="replace").split("\n")
        said = [line.split(": ", 1)[-1].strip() for line in lines if line.strip()]
        return "; ".join(said)[:_MESSAGE_LEN]

    def serves(self) -> None:
        """From now on its end is a failure to be logged."""
        self._serving = True

    def ends(self) -> None:
        """From now on its end is expected."""
        self._serving = False

    def wait(self) -> None:
        """Wait for its end, which the closing of the last connection has begun."""
        if not self.ends_within(STOP_TIMEOUT):
            log.error("qemu-nbd of %s does not end: killed", self._path)
            self.kill()
        self._errors.close()

    def kill(self) -> None:
        """End it now."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._thread.join()
        self._errors.close()


class ServedStore(DiskStore):
    """An image that a server of its own holds open; both end together."""

    def __init__(self, native: int, server: Server) -> None:
        super().__init__(native)
        self._server = server
        server.serves()

    def close(self) -> None:
        """Close the connections, and wait until the server has written everything back. Idempotent."""
        if self.native:
            self._server.ends()
            super().close()
            self._server.wait()
