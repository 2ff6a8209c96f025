# SPDX-License-Identifier: MIT
"""Which backend runs a machine: the one that was named, or the best that can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import CONTRACT_VERSION, Hypervisor, Probe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vdesktop_core.hypervisor import Arch

AUTO = "auto"


def probe(hypervisor: Hypervisor) -> Probe:
    """Probe a backend; one that was written for another contract is unavailable, not an error."""
    if hypervisor.contract_version != CONTRACT_VERSION:
        return Probe(
            available=False,
            reason=f"written for backend contract {hypervisor.contract_version}, this is {CONTRACT_VERSION}: "
            f"install a matching version",
        )
    return hypervisor.probe()


def _refusal(name: str, found: Probe, arch: Arch, cpus: int) -> str:
    """Why a backend cannot run this machine, or an empty string."""
    if not found.available:
        return f"{name}: {found.reason}"
    if arch not in found.architectures:
        return f"{name}: runs {', '.join(found.architectures)} here, not {arch}"
    if cpus > found.max_vcpus:
        return f"{name}: runs at most {found.max_vcpus} CPUs here, not {cpus}"
    return ""


def choose(hypervisors: Mapping[str, Hypervisor], name: str, arch: Arch, cpus: int) -> Hypervisor:
    """Return the backend to run a machine on.

    Args:
        hypervisors: installed backends by name.
        name: a backend's name, or ``auto`` for the one with the highest preference that can.
        arch: the guest's architecture.
        cpus: number of vCPUs.

    Raises:
        BackendError: none can; the line names the reason of each that was asked.
    """
    if name != AUTO:
        if name not in hypervisors:
            known = ", ".join(hypervisors) or "none"
            raise BackendError(
                f"backend {name!r} is not installed (installed: {known}): "
                f"pip install 'vdesktop[{name}]' or choose another --backend"
            )
        candidates = {name: hypervisors[name]}
    else:
        candidates = dict(hypervisors)
    probes = {key: probe(hypervisor) for key, hypervisor in candidates.items()}
    refusals = {key: _refusal(key, found, arch, cpus) for key, found in probes.items()}
    able = [key for key, refusal in refusals.items() if not refusal]
    if not able:
        reasons = "; ".join(refusals.values()) or "no backend is installed: pip install 'vdesktop[tcg]'"
        raise BackendError(f"no backend can run this machine: {reasons}")
    return candidates[max(able, key=lambda key: probes[key].preference)]
