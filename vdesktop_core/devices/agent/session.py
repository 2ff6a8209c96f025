# SPDX-License-Identifier: MIT
"""A conversation with the guest's agent: who can what, and which part of this side a message is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.devices.agent.wire import (
    AgentProtocolError,
    Capabilities,
    Capability,
    Codec,
    Kind,
    decode_capabilities,
    decode_file_status,
    encode_capabilities,
    encode_max_clipboard,
)

if TYPE_CHECKING:
    from vdesktop_core.devices.agent.clipboard import AgentClipboard
    from vdesktop_core.devices.agent.files import AgentFileDrop
    from vdesktop_core.devices.agent.link import AgentLink
    from vdesktop_core.devices.agent.wire import Message

#: What this side can, whatever the policy.
_ALWAYS = Capability.FILE_XFER_DETAILED_ERRORS
_CLIPBOARD = (
    Capability.CLIPBOARD_BY_DEMAND
    | Capability.CLIPBOARD_SELECTION
    | Capability.CLIPBOARD_NO_RELEASE_ON_REGRAB
    | Capability.CLIPBOARD_GRAB_SERIAL
    | Capability.MAX_CLIPBOARD
)


class AgentSession:
    """Answers the agent's greeting and hands messages on; a :class:`~.link.Listener`.

    The agent greets when it opens its port, which it does when its user's session is there. This side
    answers with a greeting that asks for another: that is what makes the agent begin with grab serial 0.
    """

    def __init__(self, link: AgentLink, clipboard: AgentClipboard, files: AgentFileDrop) -> None:
        self._link = link
        self._clipboard = clipboard
        self._files = files
        wanted = clipboard.to_guest or clipboard.to_host
        self._ours = _ALWAYS | (_CLIPBOARD if wanted else Capability(0))

    def heard(self, message: Message) -> None:
        """See Listener."""
        if message.data is None:
            self._clipboard.too_long()
            return
        match message.kind:
            case Kind.ANNOUNCE_CAPABILITIES:
                self._greeted(decode_capabilities(message.data))
            case Kind.FILE_XFER_STATUS:
                self._files.heard(decode_file_status(message.data))
            case Kind.CLIPBOARD_GRAB | Kind.CLIPBOARD_RELEASE | Kind.CLIPBOARD_REQUEST | Kind.CLIPBOARD:
                self._clipboard.heard(message.kind, message.data)
            case _:
                raise AgentProtocolError(f"{message.kind.name}: a message for agents")

    def session_ended(self) -> None:
        """See Listener."""
        self._clipboard.session_ended()
        self._files.session_ended()

    def _greeted(self, theirs: Capabilities) -> None:
        if theirs.request:
            self.session_ended()  # an agent that begins again without having closed its port
            self._link.post("greeting", self._greeting)
            return
        has = theirs.has & self._ours
        if Capability.MAX_CLIPBOARD in has:
            self._link.post("limit", self._limit)
        if Capability.CLIPBOARD_BY_DEMAND in has:
            crlf = Capability.GUEST_LINEEND_CRLF in theirs.has
            self._clipboard.session_began(Codec(has), crlf=crlf)
        if Capability.FILE_XFER_DISABLED not in theirs.has:
            self._files.session_began()

    def _greeting(self) -> tuple[Kind, tuple[bytes, ...]]:
        data = encode_capabilities(Capabilities(request=True, has=self._ours))
        return Kind.ANNOUNCE_CAPABILITIES, (data,)

    def _limit(self) -> tuple[Kind, tuple[bytes, ...]]:
        return Kind.MAX_CLIPBOARD, (encode_max_clipboard(self._clipboard.limit),)
