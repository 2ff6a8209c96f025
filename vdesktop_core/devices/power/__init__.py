# SPDX-License-Identifier: MIT
"""virtio-power: the machine's own device, in slot 0. ``docs/spec/virtio-power.md`` is its specification.

:mod:`~vdesktop_core.devices.power.port` is what the device and the machine are to each other,
:mod:`~vdesktop_core.devices.power.wire` its messages as data, from which the specification's tables and the
Linux driver's header are printed (:mod:`~vdesktop_core.devices.power.documents`).
"""
