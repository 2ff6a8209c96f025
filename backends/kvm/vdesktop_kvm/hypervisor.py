# SPDX-License-Identifier: MIT
"""The ``kvm`` backend: probing, and creating virtual machines."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import CONTRACT_VERSION, Arch, Capability, Probe, VmSpec

if TYPE_CHECKING:
    from vdesktop_kvm.machine import KvmMachine

DEVICE = "/dev/kvm"
#: Above every backend that runs on software.
PREFERENCE = 100
_CAPABILITIES = frozenset(
    {Capability.SMP, Capability.DOORBELL_FD, Capability.DIRTY_LOG, Capability.HOST_MEMORY}
)


def host_arch() -> Arch | None:
    """Return the only architecture whose guests this host's KVM runs; None: the backend has no such."""
    machine = platform.machine()
    return Arch(machine) if machine in tuple(Arch) else None


def capabilities(arch: Arch) -> frozenset[Capability]:
    """Return what the backend can do for guests of an architecture."""
    return _CAPABILITIES | {Capability.PORT_IO} if arch is Arch.X86_64 else _CAPABILITIES


class KvmHypervisor:
    """The kernel's hypervisor, on hosts of the guest's architecture.

    Args:
        device: its device node.
    """

    name = "kvm"
    contract_version = CONTRACT_VERSION

    def __init__(self, device: str = DEVICE) -> None:
        self.device = device

    def probe(self) -> Probe:
        """Implement :meth:`vdesktop_core.hypervisor.Hypervisor.probe`: run a guest of 30 instructions."""
        arch = host_arch()
        try:
            from vdesktop_kvm._kvm import ffi, lib
        except ImportError:
            return Probe(available=False, reason=f"not built for this host ({platform.machine()})")
        line, most = ffi.new("char[]", 512), ffi.new("uint32_t *")
        if arch is None or not lib.vk_probe(self.device.encode(), line, len(line), most):
            return Probe(available=False, reason=ffi.string(line).decode(errors="replace"))
        return Probe(
            available=True,
            reason=f"{self.device} runs kernel code",
            architectures=(arch,),
            max_vcpus=int(most[0]),
            capabilities=capabilities(arch),
            preference=PREFERENCE,
        )

    def create(self, spec: VmSpec) -> KvmMachine:
        """Implement :meth:`vdesktop_core.hypervisor.Hypervisor.create`. There are no options.

        Raises:
            BackendError: see there.
        """
        if spec.arch is not host_arch():
            mine = platform.machine()
            raise BackendError(f"kvm runs {mine} guests here, not {spec.arch}: use --backend tcg")
        for option in spec.options:
            raise BackendError(f"[backend.kvm] {option}: kvm has no options, remove it")
        try:
            from vdesktop_kvm.machine import KvmMachine
        except ImportError as error:
            raise BackendError(f"the kvm extension was not built for this host: {error}") from error
        return KvmMachine(spec, self.device)
