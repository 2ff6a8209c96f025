# SPDX-License-Identifier: MIT
"""Hook specifications: how plugins are found. pluggy finds and constructs; it is never called on a request.

A plugin is a module named by an entry point of the group ``vdesktop``::

    [project.entry-points.vdesktop]
    my-device = "my_package.plugin"

Its module implements any of the hooks below with :data:`hookimpl`. Plugin
modules are imported at every start, so they import what is heavy lazily.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import pluggy

from vdesktop_core.entry_points import entry_points
from vdesktop_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from vdesktop_core.devices.base import DeviceType
    from vdesktop_core.devices.blk.store import DiskFormat
    from vdesktop_core.devices.console.port import ConsoleBackend
    from vdesktop_core.devices.gpu.renderer import GpuRenderer
    from vdesktop_core.devices.net.port import NetBackend
    from vdesktop_core.display.frontend import DisplayFrontend
    from vdesktop_core.hypervisor import Hypervisor

PROJECT = "vdesktop"

_F = TypeVar("_F", bound="Callable[..., object]")
_spec = cast("Callable[[_F], _F]", pluggy.HookspecMarker(PROJECT))
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookSpecs:
    """Every hook returns a sequence; all plugins' sequences are joined. Names are unique."""

    @_spec
    def vdesktop_hypervisors(self) -> Sequence[Hypervisor]:  # type: ignore[empty-body]
        """Backends, by ``name``."""

    @_spec
    def vdesktop_device_types(self) -> Sequence[DeviceType]:  # type: ignore[empty-body]
        """Devices that a machine file may name in ``[[device]] type = …``."""

    @_spec
    def vdesktop_net_backends(self) -> Sequence[NetBackend]:  # type: ignore[empty-body]
        """What a network card can be plugged into: ``--net NAME``."""

    @_spec
    def vdesktop_console_backends(self) -> Sequence[ConsoleBackend]:  # type: ignore[empty-body]
        """What a console port can be connected to: ``--console NAME``."""

    @_spec
    def vdesktop_displays(self) -> Sequence[DisplayFrontend]:  # type: ignore[empty-body]
        """What shows a machine's screens: ``--display NAME``."""

    @_spec
    def vdesktop_gpu_renderers(self) -> Sequence[GpuRenderer]:  # type: ignore[empty-body]
        """What draws 3D for a gpu: ``renderer = NAME`` of its table."""

    @_spec
    def vdesktop_disk_formats(self) -> Sequence[DiskFormat]:  # type: ignore[empty-body]
        """How a disk image file is opened."""


class Named:
    name: str


def plugin_manager() -> pluggy.PluginManager:
    """Return a plugin manager with every installed plugin loaded.

    Raises:
        ConfigError: one cannot be imported.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    for entry in entry_points(PROJECT):
        if manager.get_plugin(entry.name) is None:
            manager.register(entry.load(), name=entry.name)
    return manager


_T = TypeVar("_T")


def by_name(results: Iterable[Sequence[_T]], what: str) -> dict[str, _T]:
    """Join hook results into a dictionary.

    Raises:
        ConfigError: two plugins use one name.
    """
    found: dict[str, _T] = {}
    for items in results:
        for item in items:
            name = cast("Named", item).name
            if name in found:
                msg = f"two plugins provide the {what} {name!r}: uninstall one of them"
                raise ConfigError(msg)
            found[name] = item
    return dict(sorted(found.items()))
