# SPDX-License-Identifier: MIT
"""Xen: domains whose only device model is this project."""
