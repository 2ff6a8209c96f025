# SPDX-License-Identifier: MIT
"""KVM, the Linux kernel's hypervisor."""
