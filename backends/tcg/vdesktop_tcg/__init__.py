# SPDX-License-Identifier: GPL-2.0-only
"""The software CPU: Unicorn (QEMU's TCG) as a full-system processor."""
