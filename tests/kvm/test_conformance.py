# SPDX-License-Identifier: MIT
"""The conformance suite on KVM, where there is one."""

from __future__ import annotations

import platform

from vdesktop_kvm.hypervisor import KvmHypervisor

from vdesktop_core.hypervisor import Arch
from vdesktop_core.testing.conformance import BackendConformance, X86BackendConformance

if platform.machine() == Arch.X86_64:

    class TestX86(X86BackendConformance):
        hypervisor = KvmHypervisor

else:

    class TestHost(BackendConformance):
        hypervisor = KvmHypervisor
        arch = Arch(platform.machine())
