# SPDX-License-Identifier: MIT
"""The whole suite."""

from __future__ import annotations

from vdesktop_core.hypervisor import Arch
from vdesktop_core.testing.conformance.accesses import AccessConformance, MemoryConformance
from vdesktop_core.testing.conformance.changes import ChangeConformance
from vdesktop_core.testing.conformance.life import InterruptConformance, LifeConformance, SmpConformance
from vdesktop_core.testing.conformance.ports import PortConformance


class BackendConformance(
    MemoryConformance,
    AccessConformance,
    InterruptConformance,
    LifeConformance,
    SmpConformance,
    ChangeConformance,
):
    """Everything that does not depend on the architecture: subclass it once for each."""


class X86BackendConformance(BackendConformance, PortConformance):
    """The suite for x86_64."""

    arch = Arch.X86_64
