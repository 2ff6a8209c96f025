# SPDX-License-Identifier: MIT
"""Screens and input, between devices and those who show and type: neither side knows the other.

A device provides a :class:`~vdesktop_core.display.screen.Screen` or an
:class:`~vdesktop_core.display.input.InputSink`; a front-end is a
:class:`~vdesktop_core.display.frontend.DisplayFrontend` and gets all of a
machine's as a :class:`~vdesktop_core.display.frontend.Desktop`. Python carries
news and events; pixels stay in shared memory.
"""
