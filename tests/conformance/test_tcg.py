# SPDX-License-Identifier: MIT
"""The conformance suite on the software CPU."""

from __future__ import annotations

from vdesktop_tcg.hypervisor import TcgHypervisor

from vdesktop_core.hypervisor import Arch
from vdesktop_core.testing.conformance import BackendConformance, X86BackendConformance


class TestX86(X86BackendConformance):
    hypervisor = TcgHypervisor


class TestAarch64(BackendConformance):
    hypervisor = TcgHypervisor
    arch = Arch.AARCH64


class TestRiscv64(BackendConformance):
    hypervisor = TcgHypervisor
    arch = Arch.RISCV64
