# SPDX-License-Identifier: MIT
"""The entry point. Imports nothing heavy: it is loaded at every start of ``vdesktop``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.hooks import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.hypervisor import Hypervisor


@hookimpl
def vdesktop_hypervisors() -> Sequence[Hypervisor]:
    """Provide the ``xen`` backend."""
    from vdesktop_xen.hypervisor import XenHypervisor

    return (XenHypervisor(),)
