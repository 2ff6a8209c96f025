# SPDX-License-Identifier: MIT
"""User-mode networking for virtio-desktop, through libslirp: no root, no set-up on the host."""
