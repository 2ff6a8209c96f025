# SPDX-License-Identifier: MIT
"""The conformance suite on Xen, where there is one."""

from __future__ import annotations

from vdesktop_xen.hypervisor import XenHypervisor

from vdesktop_core.testing.conformance import X86BackendConformance


class TestX86(X86BackendConformance):
    hypervisor = XenHypervisor
