# SPDX-License-Identifier: MIT
"""The ``xen`` backend: probing, and creating domains."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import CONTRACT_VERSION, Arch, Capability, Probe, VmSpec

if TYPE_CHECKING:
    from vdesktop_xen.attach import AttachedDomain
    from vdesktop_xen.machine import XenMachine

#: Above every backend that runs on software. Where Xen runs, KVM does not.
PREFERENCE = 100
CAPABILITIES = frozenset(
    {Capability.SMP, Capability.DOORBELL_FD, Capability.DIRTY_LOG, Capability.PORT_IO, Capability.ATTACH}
)


class XenHypervisor:
    """Xen, from dom0 or a domain with its rights, on hosts of the guest's architecture."""

    name = "xen"
    contract_version = CONTRACT_VERSION

    def probe(self) -> Probe:
        """Implement :meth:`vdesktop_core.hypervisor.Hypervisor.probe`: ask Xen for a list of domains."""
        try:
            from vdesktop_xen._xen import ffi, lib
        except ImportError:
            machine = platform.machine()
            return Probe(available=False, reason=f"built for x86_64 hosts only, this is {machine}")
        line = ffi.new("char[]", 512)
        able = lib.vx_probe(line, len(line))
        reason = ffi.string(line).decode(errors="replace")
        if not able:
            return Probe(available=False, reason=reason)
        from vdesktop_xen import store

        if missing := store.missing():
            return Probe(available=False, reason=missing)
        return Probe(
            available=True,
            reason=reason,
            architectures=(Arch.X86_64,),
            max_vcpus=lib.VX_VCPUS_MAX,
            capabilities=CAPABILITIES,
            preference=PREFERENCE,
        )

    def create(self, spec: VmSpec) -> XenMachine:
        """Implement :meth:`vdesktop_core.hypervisor.Hypervisor.create`. There are no options.

        Raises:
            BackendError: see there.
        """
        if spec.arch is not Arch.X86_64:
            raise BackendError(f"xen runs x86_64 guests here, not {spec.arch}: use --backend tcg")
        for option in spec.options:
            raise BackendError(f"[backend.xen] {option}: xen has no options, remove it")
        try:
            from vdesktop_xen.machine import XenMachine
        except ImportError as error:
            raise BackendError(f"the xen extension was not built for this host: {error}") from error
        return XenMachine(spec)

    def attach(self, target: str) -> AttachedDomain:
        """Implement :meth:`vdesktop_core.hypervisor.AttachingHypervisor.attach`: an HVM domain, paused.

        Raises:
            BackendError: see there.
        """
        from vdesktop_xen.attach import AttachedDomain

        return AttachedDomain(target)
