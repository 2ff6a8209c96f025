# SPDX-License-Identifier: MIT
"""The console device: configuration, and the Python face of its data plane."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.base import Device, DeviceConfig, DeviceContext, DeviceType
from vdesktop_core.devices.console.port import ESCAPE, ESCAPE_THEN, ConsolePort, open_console
from vdesktop_core.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VIRTIO_ID = 3
MAX_PORTS = 31
COUNTERS = ("rx_bytes", "tx_bytes", "tx_dropped_bytes", "tx_stalls", "connections", "disconnects")


class PortConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """``[[device.ports]]``: one port.

    Attributes:
        backend: what it is connected to, as in ``--console``.
        name: what the guest calls it: ``/dev/virtio-ports/NAME``. Up to 63 bytes.
        console: a terminal (``hvcN``), or else a plain byte stream.
    """

    backend: str = "none"
    name: str = ""
    console: bool = True

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if len(self.name.encode()) > 63 or not self.name.isprintable():
            raise ConfigError(f"console port name {self.name!r}: use up to 63 printable bytes")


class ConsoleConfig(DeviceConfig, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """``[[device]] type = "console"``. The first port is ``hvc0``.

    Attributes:
        ports: 1 to 31.
        max_ports: leaves room for ports that come later; default: as many as ``ports``. 1 offers no
            MULTIPORT, so that every guest takes the terminal's size (docs/decisions/0008).
    """

    type: str = "console"
    ports: tuple[PortConfig, ...] = (PortConfig(backend="stdio"),)
    max_ports: int | None = None

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        most = len(self.ports) if self.max_ports is None else self.max_ports
        if not self.ports or not len(self.ports) <= most <= MAX_PORTS:
            raise ConfigError(f"console: {len(self.ports)} ports of at most {most}: give 1 to {MAX_PORTS}")


class PortSession(msgspec.Struct, frozen=True):
    """A port's present or last opening by the guest.

    Attributes:
        open: whether it lasts.
        openings: how many there were, modulo 2^16.
        start: bytes the guest had sent through the port before it, modulo 2^47.
    """

    open: bool
    openings: int
    start: int


def _room_for(ports: Sequence[PortConfig]) -> int:
    """How many ports to offer. One means no MULTIPORT, which only a nameless console can do without."""
    if len(ports) == 1 and ports[0].console and not ports[0].name:
        return 1
    return max(2, len(ports))


def parse_console(spec: str) -> ConsoleConfig:
    """Return the configuration that ``--console SPEC`` means: one port."""
    return ConsoleConfig(ports=(PortConfig(backend=spec),))


class ConsoleDevice(Device):
    """A virtio console of one or more ports.

    Raises:
        ConfigError: a port's backend is unknown or its argument makes no sense.
        DeviceError: the host refuses.
    """

    def __init__(self, config: ConsoleConfig, context: DeviceContext) -> None:
        super().__init__(context)
        with contextlib.ExitStack() as stack:
            self._console = lib.vd_console_new(
                ffi.cast("struct vd_host *", context.host),
                ffi.cast("struct vd_mem *", context.memory.native),
                ffi.cast("struct vd_loop *", context.loop),
                context.name.encode(),
                config.max_ports or _room_for(config.ports),
            )
            if self._console == ffi.NULL:
                raise DeviceError(f"cannot create {context.name}: the host is out of memory or descriptors")
            stack.callback(lib.vd_console_free, self._console)
            self._ports: dict[int, ConsolePort] = {}
            for number, port in enumerate(config.ports):
                opened = open_console(port.backend, context.plugins["console"])
                stack.callback(opened.close)
                self._add(number, port.name, opened, console=port.console)
            self._stack = stack.pop_all()

    def _add(self, number: int, name: str, port: ConsolePort, *, console: bool) -> None:
        columns, rows = port.size() or (0, 0)
        text = ffi.new("char[]", name.encode())
        error = lib.vd_console_add_port(
            self._console,
            ffi.new(
                "struct vd_console_port_config *",
                {
                    "id": number,
                    "flags": (lib.VD_CONSOLE_IS_CONSOLE if console else 0)
                    | (lib.VD_CONSOLE_LOSSY if port.lossy and console else 0),
                    "in_fd": port.read_fd,
                    "out_fd": port.write_fd,
                    "listen_fd": port.listen_fd,
                    "cols": columns,
                    "rows": rows,
                    "escape_fd": port.escape_fd,
                    "escape": ESCAPE,
                    "escape_then": ESCAPE_THEN,
                    "name": text,
                },
            ),
        )
        if error:
            raise DeviceError(f"{self.name}: cannot add port {number}: {os.strerror(-error)}")
        self._ports[number] = port
        error = lib.vd_console_watch_port(self._console, number, port.session_fd)
        if error:
            raise DeviceError(f"{self.name}: cannot watch port {number}: {os.strerror(-error)}")
        port.on_resize(lambda: self.resize(number))

    def add_port(self, number: int, name: str, port: ConsolePort, *, console: bool = False) -> None:
        """Plug a port in while the machine is there, such as one end of a socket pair of this process's.

        Args:
            number: 1 to the configuration's ``max_ports`` - 1, and free.
            name: what the guest calls it.
            port: the caller's to close, after :meth:`remove_port`.
            console: a terminal of the guest's.

        Raises:
            DeviceError: the number is taken or out of range.
        """
        self._add(number, name, port, console=console)

    def remove_port(self, number: int) -> None:
        """Unplug a port. Raises DeviceError if there is none of this number."""
        if lib.vd_console_remove_port(self._console, number):
            raise DeviceError(f"{self.name} has no port {number}")
        del self._ports[number]

    def session(self, number: int) -> PortSession:
        """Return what the guest did with a port last, on any thread. Raises DeviceError: there is none."""
        found = ffi.new("struct vd_console_session *")
        if lib.vd_console_port_session(self._console, number, found):
            raise DeviceError(f"{self.name} has no port {number}")
        return PortSession(bool(found.open), int(found.openings), int(found.start))

    def resize(self, number: int) -> None:
        """Tell the guest the present size of a port's terminal."""
        columns, rows = self._ports[number].size() or (0, 0)
        lib.vd_console_resize(self._console, number, columns, rows)

    @property
    def native(self) -> int:
        """Address of the ``struct vd_device``."""
        return int(ffi.cast("uintptr_t", lib.vd_console_device(self._console)))

    def counters(self) -> Mapping[str, int]:
        """Bytes and connections by port (``port0_rx_bytes`` …), and what was refused."""
        if not self._ports:  # closed
            return {}
        found = {
            "bad_controls": int(lib.vd_console_bad_controls(self._console)),
            "emergency_dropped": int(lib.vd_console_emergency_dropped(self._console)),
        }
        counters = ffi.new("struct vd_console_counters *")
        for number in self._ports:
            if not lib.vd_console_port_counters(self._console, number, counters):
                found |= {f"port{number}_{key}": int(getattr(counters, key)) for key in COUNTERS}
        return found

    def lost(self) -> None:
        """Close what the ports were connected to; what the guest says goes nowhere."""
        for port in self._ports.values():
            port.close()

    def close(self) -> None:
        """Close all ports; the terminal is restored. Idempotent."""
        self._stack.close()
        self._ports.clear()


DEVICE_TYPE = DeviceType(
    name="console",
    summary="terminals and byte streams between host and guest",
    virtio_id=VIRTIO_ID,
    config=ConsoleConfig,
    create=ConsoleDevice,
)
