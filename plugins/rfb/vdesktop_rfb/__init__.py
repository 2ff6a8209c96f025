# SPDX-License-Identifier: MIT
"""RFB, the protocol of VNC: one implementation for every front-end, and the front-end ``vnc``."""
