# SPDX-License-Identifier: MIT
"""What runs in guests, as data: sources of the virtio-power driver."""
