# SPDX-License-Identifier: GPL-2.0-only
"""The ``tcg`` backend: probing, and creating virtual machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdesktop_core.errors import BackendError
from vdesktop_core.hypervisor import CONTRACT_VERSION, Arch, Capability, Probe, VmSpec

if TYPE_CHECKING:
    from vdesktop_tcg.machine import TcgMachine

#: One thread runs all vCPUs: more of them bring correctness tests, not speed.
MAX_VCPUS = 8
#: Below every backend that runs on hardware.
PREFERENCE = 10


class TcgHypervisor:
    """The software CPU."""

    name = "tcg"
    contract_version = CONTRACT_VERSION

    def probe(self) -> Probe:
        """Implement :meth:`vdesktop_core.hypervisor.Hypervisor.probe`: load the library and check it."""
        from vdesktop_tcg import library

        try:
            library.load()
        except BackendError as error:
            return Probe(available=False, reason=str(error))
        except ImportError as error:
            return Probe(available=False, reason=f"the tcg extension was not built: {error}")
        return Probe(
            available=True,
            reason="Unicorn 2.1.4",
            architectures=tuple(Arch),
            max_vcpus=MAX_VCPUS,
            capabilities=frozenset({Capability.SMP, Capability.PORT_IO, Capability.HOST_MEMORY}),
            preference=PREFERENCE,
        )

    def create(self, spec: VmSpec) -> TcgMachine:
        """Implement :meth:`vdesktop_core.hypervisor.Hypervisor.create`.

        ``spec.options`` are integers: ``cpu_model``, Unicorn's number of one; ``translation_buffer``, how
        many bytes of translated code are kept (1 MiB to 1 GiB; 22 MiB).

        Raises:
            BackendError: see there.
        """
        from vdesktop_tcg.machine import TcgMachine

        return TcgMachine(spec)
