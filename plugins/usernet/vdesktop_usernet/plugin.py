# SPDX-License-Identifier: MIT
"""The entry point. Imports nothing heavy: it is loaded at every start of ``vdesktop``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.devices.net.port import NetBackend


@hookimpl
def vdesktop_net_backends() -> Sequence[NetBackend]:
    """Provide ``--net user``."""
    from vdesktop_usernet.backend import UserBackend

    return (UserBackend(),)
