# SPDX-License-Identifier: MIT
"""What a device is to the machine: a type that is configured, an instance that is attached.

A *native* device has its data plane in C and gives the address of its
``struct vd_device``. A device in Python derives from
:class:`vdesktop_core.devices.python.PythonDevice`.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vdesktop_core.display.bootfb import BootFramebuffer
    from vdesktop_core.display.clipboard import Clipboard
    from vdesktop_core.display.files import FileDrop
    from vdesktop_core.display.input import InputSink
    from vdesktop_core.display.screen import Screen
    from vdesktop_core.hypervisor import Arch
    from vdesktop_core.memory import GuestMemory


class DeviceConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Base of all device configurations: the keys of a ``[[device]]`` table."""

    type: str
    #: The device's name in logs, counters and ``vdesktop ctl``; default: type and a number.
    name: str = ""
    #: A fixed slot, 1..31; default: the first free one.
    slot: int | None = None


class DeviceContext(msgspec.Struct, frozen=True):
    """What the machine gives a device at creation. Addresses are of C structures."""

    name: str
    machine: str  #: the machine's name, for stable derived values such as a MAC
    arch: Arch
    memory: GuestMemory
    host: int  #: struct vd_host
    loop: int  #: struct vd_loop, the I/O thread this device may use
    #: Keeps ``await``-able work on the control loop: call_soon_threadsafe.
    call_soon: Callable[[Callable[[], Any]], object]
    #: Named plugin objects by hook: ``net``, ``console``, ``disk`` -> {name: object}.
    plugins: Mapping[str, Mapping[str, Any]]
    #: What a display device shows until its driver does; None: the machine has no boot framebuffer.
    framebuffer: BootFramebuffer | None = None


class Device(abc.ABC):
    """A created device. The machine attaches ``native`` to a slot and closes the device at the end."""

    def __init__(self, context: DeviceContext) -> None:
        self.context = context
        self.name = context.name

    @property
    @abc.abstractmethod
    def native(self) -> int:
        """Address of the device's ``struct vd_device``."""

    @property
    def screen(self) -> Screen | None:
        """What display front-ends show of this device, if it is one to look at."""
        return None

    @property
    def input_sink(self) -> InputSink | None:
        """What display front-ends put input events into, if it is one to type or point with."""
        return None

    @property
    def clipboard(self) -> Clipboard | None:
        """The guest's clipboard, if this device leads to it."""
        return None

    @property
    def file_drop(self) -> FileDrop | None:
        """What takes files into the guest, if this device leads to it."""
        return None

    def on_event(self, kind: int, a: int, b: int) -> None:  # noqa: B027  (an optional hook)
        """Hear of a driver decision (``VD_EVENT_*``), on the control loop."""

    def lost(self) -> None:  # noqa: B027  (an optional hook)
        """Close what stands behind this device: its native part has let go of it (``vd_device_ops.lose``).

        The device stays in its slot, and answers, until its driver lets go; then comes :meth:`close`.
        """

    def counters(self) -> Mapping[str, int]:
        """Monotonic counters for ``--stats``."""
        return {}

    @abc.abstractmethod
    def close(self) -> None:
        """Stop, finish or fail what is in flight, free everything. Called detached; idempotent."""


class DeviceType(msgspec.Struct, frozen=True):
    """A kind of device, as a plugin registers it."""

    name: str
    summary: str
    virtio_id: int
    config: type[DeviceConfig]
    create: Callable[[Any, DeviceContext], Device]
