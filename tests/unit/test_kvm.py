# SPDX-License-Identifier: MIT
"""The kvm backend where KVM is absent or unable: one line that says what to do, at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from vdesktop_kvm.hypervisor import KvmHypervisor

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import Arch, Probe, VmSpec
from vdesktop_core.selection import choose

if TYPE_CHECKING:
    from pathlib import Path


def spec(**changes: object) -> VmSpec:
    return VmSpec(**({"arch": Arch.X86_64, "vcpus": 1} | changes))  # type: ignore[arg-type]


def test_device_that_is_missing_is_one_line_with_advice(tmp_path: Path) -> None:
    hypervisor = KvmHypervisor(str(tmp_path / "kvm"))
    found = hypervisor.probe()
    assert not found.available
    assert "\n" not in found.reason
    assert "No such file" in found.reason
    assert "load kvm_amd or kvm_intel" in found.reason
    with pytest.raises(BackendError, match="load kvm_amd or kvm_intel"):
        hypervisor.create(spec())


def test_device_that_is_not_kvm_is_refused() -> None:
    for device in ("/dev/null", "/dev/zero"):
        found = KvmHypervisor(device).probe()
        assert (found.available, found.reason) == (False, f"{device} is not a KVM of API version 12")
        with pytest.raises(BackendError, match="is not a KVM"):
            KvmHypervisor(device).create(spec())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
@pytest.mark.host("a user that is not root")
def test_device_without_permission_names_the_group(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch(mode=0)
    assert "group kvm" in KvmHypervisor(str(device)).probe().reason


def test_probe_failures_leave_no_descriptor(tmp_path: Path) -> None:
    def all_of_them() -> None:
        for device in (tmp_path / "kvm", "/dev/null", "/dev/kvm"):
            KvmHypervisor(str(device)).probe()

    all_of_them()
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - iterdir holds one open
    all_of_them()
    after = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert after == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arch": Arch.RISCV64}, "runs x86_64 guests here, not riscv64"),
        ({"options": {"speed": 1}}, "kvm has no options"),
    ],
)
def test_machine_that_kvm_does_not_run_is_one_line(changes: dict[str, object], said: str) -> None:
    with pytest.raises(BackendError, match=said):
        KvmHypervisor().create(spec(**changes))


def test_auto_passes_over_kvm_that_cannot_run_linux() -> None:
    class Other:
        name = "other"
        contract_version = KvmHypervisor.contract_version

        def probe(self) -> Probe:
            return Probe(available=True, reason="", architectures=(Arch.X86_64,), preference=1)

    other = Other()
    unable = KvmHypervisor("/dev/null")
    chosen = choose({"kvm": unable, "other": other}, "auto", Arch.X86_64, 1)  # type: ignore[dict-item]
    assert chosen is other
    with pytest.raises(BackendError, match="is not a KVM"):
        choose({"kvm": unable}, "auto", Arch.X86_64, 1)
