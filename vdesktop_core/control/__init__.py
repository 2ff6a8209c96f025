# SPDX-License-Identifier: MIT
"""The control socket of a running machine: JSON lines over a unix socket. See ``docs/control.md``.

:mod:`~vdesktop_core.control.place` says where sockets lie and claims a name,
:mod:`~vdesktop_core.control.protocol` is what goes over them,
:mod:`~vdesktop_core.control.server` and :mod:`~vdesktop_core.control.client` are the two ends, and
:mod:`~vdesktop_core.control.handlers` is what requests do to a machine.
"""
