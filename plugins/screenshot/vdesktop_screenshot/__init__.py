# SPDX-License-Identifier: MIT
"""A display front-end that writes the screen to a PNG file."""
