# SPDX-License-Identifier: MIT
"""Linux drivers for guests, as data: their sources."""
