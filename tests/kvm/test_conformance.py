# SPDX-License-Identifier: MIT
"""The conformance suite on KVM, where there is one."""

from __future__ import annotations

from vdesktop_kvm.hypervisor import KvmHypervisor

from vdesktop_core.testing.conformance import X86BackendConformance


class TestX86(X86BackendConformance):
    hypervisor = KvmHypervisor
