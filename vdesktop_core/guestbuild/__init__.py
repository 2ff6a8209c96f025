# SPDX-License-Identifier: MIT
"""Guest images from Debian's own packages: a stock kernel, its virtio modules, busybox and an init script.

Nothing here needs root or a foreign dpkg architecture: apt-get runs with lists and archives of its own
in a cache folder, verifies everything against Debian's archive keyring, and what it fetched is unpacked,
never installed.
"""
