# SPDX-License-Identifier: MIT
"""ACPI tables, and the AML they need."""
