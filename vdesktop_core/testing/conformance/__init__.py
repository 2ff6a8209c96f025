# SPDX-License-Identifier: MIT
"""The backend conformance suite: what :mod:`vdesktop_core.hypervisor` promises, held against a real backend.

A backend's tests subclass it once for each architecture, and run it with pytest::

    from vdesktop_core.hypervisor import Arch
    from vdesktop_core.testing.conformance import BackendConformance, X86BackendConformance

    class TestX86(X86BackendConformance):
        hypervisor = MyHypervisor

    class TestAarch64(BackendConformance):
        hypervisor = MyHypervisor
        arch = Arch.AARCH64

Guests are programs of a few instructions (:mod:`.program`): no kernel, no firmware, no assembler needed.
What a backend does not claim in :class:`~vdesktop_core.hypervisor.Probe` is tested to be refused, so no
test is skipped. Needs pytest.
"""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in ("accesses", "life", "ports", "guest")))

from vdesktop_core.testing.conformance.suite import BackendConformance, X86BackendConformance  # noqa: E402 - after the above

__all__ = ["BackendConformance", "X86BackendConformance"]
