# SPDX-License-Identifier: MIT
"""Which backend is taken, and what a person reads where none can be."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import CONTRACT_VERSION, Arch, Probe, VirtualMachine, VmSpec
from vdesktop_core.selection import choose


@dataclass
class Backend:
    name: str
    found: Probe
    contract_version: int = CONTRACT_VERSION

    def probe(self) -> Probe:
        return self.found

    def create(self, spec: VmSpec) -> VirtualMachine:
        raise AssertionError(spec)


ALL = tuple(Arch)
SLOW = Backend("slow", Probe(available=True, reason="", architectures=ALL, max_vcpus=8, preference=1))
FAST = Backend(
    "fast", Probe(available=True, reason="", architectures=(Arch.X86_64,), max_vcpus=2, preference=9)
)
DEAD = Backend("dead", Probe(available=False, reason="no /dev/dead: load the module"))
OLD = Backend("old", Probe(available=True, reason="", architectures=ALL, preference=99), contract_version=0)
BACKENDS = {backend.name: backend for backend in (SLOW, FAST, DEAD, OLD)}


def test_choose_auto_takes_highest_preference_that_can() -> None:
    assert choose(BACKENDS, "auto", Arch.X86_64, 2) is FAST


@pytest.mark.parametrize(("arch", "cpus"), [(Arch.RISCV64, 1), (Arch.X86_64, 3)])
def test_choose_auto_passes_over_those_that_cannot(arch: Arch, cpus: int) -> None:
    assert choose(BACKENDS, "auto", arch, cpus) is SLOW


@pytest.mark.parametrize(
    ("name", "arch", "cpus", "reason"),
    [
        ("dead", Arch.X86_64, 1, "load the module"),
        ("fast", Arch.AARCH64, 1, "runs x86_64 here, not aarch64"),
        ("fast", Arch.X86_64, 3, "at most 2 CPUs"),
        ("old", Arch.X86_64, 1, "written for backend contract 0"),
        ("none", Arch.X86_64, 1, "is not installed"),
        ("auto", Arch.X86_64, 100, "dead: no /dev/dead"),
    ],
)
def test_choose_impossible_says_why_in_one_line(name: str, arch: Arch, cpus: int, reason: str) -> None:
    with pytest.raises(BackendError) as caught:
        choose(BACKENDS, name, arch, cpus)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_choose_nothing_installed_says_what_to_install() -> None:
    with pytest.raises(BackendError, match="pip install"):
        choose({}, "auto", Arch.X86_64, 1)
