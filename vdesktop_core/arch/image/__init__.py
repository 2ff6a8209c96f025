# SPDX-License-Identifier: MIT
"""Kernel images, read as hostile files: every field is bounded before it is used."""
