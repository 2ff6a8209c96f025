# SPDX-License-Identifier: MIT
"""virtio-desktop: a desktop computer of virtio devices, for any hypervisor."""

__version__ = "0.1.0"
