# SPDX-License-Identifier: MIT
"""A machine's desktop in a browser."""
