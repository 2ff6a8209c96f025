# SPDX-License-Identifier: MIT
"""Files into the guest: START, the agent's consent, DATA until all is there, its SUCCESS."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import TYPE_CHECKING

from vdesktop_core.devices.agent.link import AgentGone
from vdesktop_core.devices.agent.wire import (
    FileResult,
    Kind,
    encode_file_start,
    encode_file_status,
    file_data_header,
)
from vdesktop_core.display.files import NAME_BYTES, DropFailure, FileDropError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vdesktop_core.devices.agent.link import AgentLink
    from vdesktop_core.devices.agent.wire import FileStatus

#: Transfers at a time: as many as a person follows, and far fewer than the agent's own limit.
_TRANSFERS_MAX = 8
#: Bytes of a file in one message: other messages wait as long as it takes.
_PIECE_BYTES = 32768
_SIZE_MAX = (1 << 63) - 1
#: Controls, what separates folders, and what reorders text (Unicode Bidi_Control): no name's business.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f/\\\\\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_FAILURES = {
    FileResult.CANCELLED: (DropFailure.CANCELLED, "the guest cancelled it"),
    FileResult.ERROR: (DropFailure.ERROR, "the guest could not write it"),
    FileResult.NOT_ENOUGH_SPACE: (DropFailure.NO_SPACE, "the guest's disk has no room for it"),
    FileResult.SESSION_LOCKED: (DropFailure.LOCKED, "the guest's screen is locked: unlock it"),
    FileResult.VDAGENT_NOT_CONNECTED: (DropFailure.NO_AGENT, "nobody is logged in on the guest's screen"),
    FileResult.DISABLED: (DropFailure.OFF, "the guest's agent takes no files"),
}


def fit_name(name: str) -> str:
    """Return what a dropped file may be called: no folders, nothing unprintable, at most NAME_BYTES."""
    base = re.split(r"[/\\]", name)[-1]
    # GKeyFile takes blanks off a value's ends.
    fit = _UNFIT.sub("_", base.encode("utf-8", "replace").decode()).strip()
    if fit in ("", ".", ".."):
        return "file"
    while len(fit.encode()) > NAME_BYTES:
        stem, dot, suffix = fit.rpartition(".")
        fit = stem[:-1] + dot + suffix if stem and len(suffix) < 16 else fit[:-1]
    return fit


class AgentTransfer:
    """One file; a :class:`~vdesktop_core.display.files.FileTransfer`."""

    def __init__(self, drop: AgentFileDrop, link: AgentLink, number: int, name: str, size: int) -> None:
        self._drop = drop
        self._link = link
        self.number = number
        self.name = name
        self.size = size
        self.sent = 0
        loop = asyncio.get_running_loop()
        self.consent: asyncio.Future[None] = loop.create_future()
        self._verdict: asyncio.Future[None] = loop.create_future()
        for future in (self.consent, self._verdict):  # nobody has to look at how it ended
            future.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """See FileTransfer."""
        rest = memoryview(data).cast("B")
        if self.sent + len(rest) > self.size:
            self._give_up(DropFailure.SIZE, f"more than the {self.size} bytes it was said to have")
        for at in range(0, len(rest), _PIECE_BYTES):
            self._check()
            await self._send(rest[at : at + _PIECE_BYTES])

    async def finish(self) -> None:
        """See FileTransfer."""
        self._check()
        if self.sent != self.size:
            self._give_up(DropFailure.SIZE, f"{self.sent} of its {self.size} bytes came")
        if not self.size:
            await self._send(memoryview(b""))  # an agent looks whether it is all there at each piece
        await asyncio.shield(self._verdict)

    def cancel(self) -> None:
        """See FileTransfer."""
        if not self._verdict.done():
            data = encode_file_status(self.number, FileResult.CANCELLED)
            self._link.post(("cancel", self.number), lambda: (Kind.FILE_XFER_STATUS, (data,)))
            self.fail(DropFailure.CANCELLED, "the sender cancelled it")

    def heard(self, result: int) -> None:
        """Take the agent's word for it."""
        if result == FileResult.CAN_SEND_DATA:
            if not self.consent.done():
                self.consent.set_result(None)
        elif result == FileResult.SUCCESS and self.sent == self.size and self.consent.done():
            if not self._verdict.done():
                self._drop.ended(self, self.size)
                self._verdict.set_result(None)
        else:
            known = FileResult(result) if result in _FAILURES else FileResult.ERROR
            self.fail(*_FAILURES[known])

    def fail(self, failure: DropFailure, why: str) -> None:
        """End it. No effect after the end."""
        if self._verdict.done():
            return
        self._drop.ended(self, None)
        for future in (self.consent, self._verdict):
            if not future.done():
                future.set_exception(FileDropError(failure, f"{self.name}: {why}"))

    async def _send(self, piece: memoryview) -> None:
        try:
            await self._link.send(
                Kind.FILE_XFER_DATA, file_data_header(self.number, len(piece)), bytes(piece)
            )
        except AgentGone:
            self._check()
            raise
        self.sent += len(piece)

    def _check(self) -> None:
        if self._verdict.done():
            self._verdict.result()
            raise FileDropError(DropFailure.SIZE, f"{self.name}: it is there already")

    def _give_up(self, failure: DropFailure, why: str) -> None:
        self._check()
        self.cancel()
        raise FileDropError(failure, f"{self.name}: {why}")


class AgentFileDrop:
    """Starts transfers; a :class:`~vdesktop_core.display.files.FileDrop`."""

    def __init__(self, link: AgentLink, *, enabled: bool) -> None:
        self._link = link
        self.enabled = enabled
        self._live = False
        self._transfers: dict[int, AgentTransfer] = {}
        self._numbers = itertools.count(1)
        self._counters = {"files_received": 0, "files_failed": 0, "file_bytes": 0}

    @property
    def ready(self) -> bool:
        """See FileDrop."""
        return self.enabled and self._live

    async def start(self, name: str, size: int) -> AgentTransfer:
        """See FileDrop."""
        name = fit_name(name)
        if not self.enabled:
            raise FileDropError(DropFailure.OFF, f"{name}: this machine takes no files: see its option files")
        if not self._live:
            raise FileDropError(
                DropFailure.NO_AGENT, f"{name}: no agent in the guest takes files: is spice-vdagent running?"
            )
        if len(self._transfers) >= _TRANSFERS_MAX:
            raise FileDropError(DropFailure.BUSY, f"{name}: {_TRANSFERS_MAX} files are on their way: wait")
        if not 0 <= size <= _SIZE_MAX:
            raise FileDropError(DropFailure.SIZE, f"{name}: {size} bytes is no size")
        number = next(self._numbers) & 0xFFFFFFFF
        transfer = self._transfers[number] = AgentTransfer(self, self._link, number, name, size)
        try:
            await self._link.send(Kind.FILE_XFER_START, encode_file_start(number, name, size))
            await asyncio.shield(transfer.consent)
        except asyncio.CancelledError:
            transfer.cancel()
            raise
        except AgentGone:
            transfer.fail(DropFailure.NO_AGENT, "the guest's agent is gone")
            await transfer.consent
        return transfer

    def ended(self, transfer: AgentTransfer, received: int | None) -> None:
        """Forget a transfer; count the bytes the guest has, or a failure."""
        self._transfers.pop(transfer.number, None)
        self._counters["files_failed" if received is None else "files_received"] += 1
        self._counters["file_bytes"] += received or 0

    def heard(self, status: FileStatus) -> None:
        """Take the agent's word on a transfer; one that has ended is none."""
        if transfer := self._transfers.get(status.transfer):
            transfer.heard(status.result)

    def session_began(self) -> None:
        """There is somebody who takes files."""
        self._live = True

    def session_ended(self) -> None:
        """Nobody is there any more."""
        self._live = False
        for transfer in list(self._transfers.values()):
            transfer.fail(DropFailure.NO_AGENT, "the guest's agent is gone")

    def counters(self) -> Mapping[str, int]:
        """Files and bytes that the guest has, and transfers that came to nothing."""
        return dict(self._counters)
