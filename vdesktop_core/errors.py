# SPDX-License-Identifier: MIT
"""Errors that reach a person.

Every message is one line: what happened, to what, what to do.
"""

from __future__ import annotations


class VdesktopError(Exception):
    """Base of all errors this package raises on purpose."""


class ConfigError(VdesktopError):
    """The machine file, an option or a value of it does not make sense."""


class BootError(VdesktopError):
    """A kernel, initrd or command line that cannot be loaded."""


class BackendError(VdesktopError):
    """A backend is absent, or refused what was asked of it."""


class DeviceError(VdesktopError):
    """A device or what stands behind it (a file, a network) failed."""


class ControlError(VdesktopError):
    """A control socket that cannot be made or reached, or a request that the machine refused."""


class GuestTimeoutError(VdesktopError):
    """The guest has not done in time what it was asked to."""


class GuestMemoryError(VdesktopError):
    """A guest-physical range that is not memory, or not writable."""


class GuestBuildError(VdesktopError):
    """A guest image could not be built."""
