# SPDX-License-Identifier: MIT
"""What a machine is made of: typed, from a TOML file, the command line or Python.

All three make the same :class:`MachineConfig`. Keys of a device's table belong
to its device type, so they are kept as they are here and checked against the
type's own :class:`~vdesktop_core.devices.base.DeviceConfig` by
:func:`device_config`.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import msgspec

from vdesktop_core.errors import ConfigError
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vdesktop_core.devices.base import DeviceConfig, DeviceType

#: vCPUs of one machine at most: the 8-bit APIC id less broadcast, and far over what anyone runs.
MAX_CPUS = 254
#: The name of a machine that nobody named; the control socket numbers those.
DEFAULT_NAME = "vdesktop"
#: Pixels of the boot framebuffer, where nothing else is asked for.
DEFAULT_FRAMEBUFFER = "1024x768"
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PIXELS = re.compile(r"(\d{1,5})x(\d{1,5})")
_PATH_KEYS = ("kernel", "initrd")


def parse_size(text: str | int) -> int:
    """Return a size in bytes from ``512M``, ``2GiB``, ``4096`` or an integer of bytes.

    Raises:
        ConfigError: not a size.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ConfigError(f"{text!r} is not a size: write a number with K, M, G or T, such as 512M")
    return int(match[1]) * _UNITS[match[2].upper()]


def parse_pixels(text: str) -> tuple[int, int]:
    """Return width and height of a picture written as ``1024x768``.

    Raises:
        ConfigError: it is not written like this.
    """
    match = _PIXELS.fullmatch(text)
    if not match:
        raise ConfigError(f"{text!r} is not a picture's size: write it as 1024x768")
    return int(match[1]), int(match[2])


def parse_arch(name: str) -> Arch:
    """Return an architecture by its name.

    Raises:
        ConfigError: there is none of this name.
    """
    try:
        return Arch(name)
    except ValueError as error:
        raise ConfigError(f"unknown architecture {name!r}: use one of {', '.join(Arch)}") from error


def host_arch() -> Arch:
    """Return the architecture of this host, or x86_64 where the host's is none that a guest can have."""
    try:
        return Arch(os.uname().machine)
    except ValueError:
        return Arch.X86_64


class BootConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``[boot]``: what the machine starts. Paths are relative to the machine file."""

    kernel: str = ""
    initrd: str = ""
    append: str = ""


class MachineConfig(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A whole machine.

    Attributes:
        name: for logs and for deriving stable addresses (MAC).
        arch: guest architecture, or its name.
        memory: guest RAM in bytes, or as text such as ``512M``; a multiple of 1 MiB.
        cpus: number of vCPUs that the guest starts with, 1 to 254.
        max_cpus: number of vCPUs that it may have in the end, ``cpus`` to 254; default: ``cpus``.
        backend: a backend's name, or ``auto``.
        boot: kernel, initrd and command line.
        devices: one typed configuration a device, or a mapping with at least ``type``.
        backends: options of backends, by name.
        debug_uart: a console backend's specification for the 16550, or ``none``.
        display: a display front-end's specification, or ``none``.
        framebuffer: size of the boot framebuffer such as ``1024x768``, ``none``, or ``auto``: one where there
            is a display or a gpu.
        reboot: False: a guest reset ends the run (``--no-reboot``).
        power: whether slot 0 has the virtio-power device (``docs/spec/virtio-power.md``).
        control: listen on a control socket (``docs/control.md``); default: what runs the machine decides:
            the command does, Python does not.
    """

    name: str = DEFAULT_NAME
    arch: Arch = msgspec.field(default_factory=host_arch)
    memory: int = 512 << 20
    cpus: int = 1
    max_cpus: int = 0
    backend: str = "auto"
    boot: BootConfig = BootConfig()
    devices: tuple[DeviceConfig | Mapping[str, Any], ...] = ()
    backends: Mapping[str, Mapping[str, Any]] = {}
    debug_uart: str = "none"
    display: str = "none"
    framebuffer: str = "auto"
    reboot: bool = True
    power: bool = True
    control: bool | None = None

    def __post_init__(self) -> None:
        """Take text where a person writes it, and check what a type cannot say."""
        msgspec.structs.force_setattr(self, "arch", parse_arch(self.arch))
        msgspec.structs.force_setattr(self, "memory", parse_size(self.memory))
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"machine name {self.name!r}: use 1 to 64 letters, digits, '_', '.' or '-'")
        if not 1 <= self.cpus <= MAX_CPUS:
            raise ConfigError(f"{self.cpus} CPUs: a machine has 1 to {MAX_CPUS}")
        if not self.cpus <= self.vcpus <= MAX_CPUS:
            raise ConfigError(
                f"at most {self.max_cpus} CPUs with {self.cpus} at the start: give {self.cpus} to {MAX_CPUS}"
            )
        if self.memory < 16 << 20 or self.memory % (1 << 20):
            raise ConfigError(f"{self.memory} bytes of memory: give whole MiB, 16M at least")
        if self.framebuffer not in ("auto", "none"):
            parse_pixels(self.framebuffer)
        for device in self.devices:
            device_type_name(device)

    @property
    def vcpus(self) -> int:
        """Number of vCPUs that the machine has, started or not."""
        return self.max_cpus or self.cpus

    @property
    def framebuffer_size(self) -> str | None:
        """Size of the boot framebuffer; None: the machine has none."""
        if self.framebuffer == "none":
            return None
        if self.framebuffer != "auto":
            return self.framebuffer
        return DEFAULT_FRAMEBUFFER if self.has_screen else None

    @property
    def has_screen(self) -> bool:
        """Whether the machine has a screen, of whatever kind, or somebody who looks at one."""
        if self.framebuffer not in ("none", "auto") or self.display != "none":
            return True
        return any(device_type_name(device) == "gpu" for device in self.devices)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The TOML file's own shape."""

    class Machine(msgspec.Struct, forbid_unknown_fields=True):
        name: str | None = None
        arch: str | None = None
        memory: str | int | None = None
        cpus: int | None = None
        backend: str | None = None
        debug_uart: str | None = None
        display: str | None = None
        framebuffer: str | None = None
        reboot: bool | None = None
        power: bool | None = None
        max_cpus: int | None = None
        control: bool | None = None

    machine: Machine = msgspec.field(default_factory=Machine)
    boot: BootConfig = BootConfig()
    device: list[dict[str, Any]] = []
    backend: dict[str, dict[str, Any]] = {}


def load(path: Path) -> MachineConfig:
    """Read a machine file.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or has keys or values that a machine has not.
    """
    import tomllib  # only where there is a file: start-up time

    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read the machine file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    try:
        parsed = msgspec.convert(table, _File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
    values = {k: v for k in _File.Machine.__struct_fields__ if (v := getattr(parsed.machine, k)) is not None}
    try:
        return build(
            values | {"boot": parsed.boot, "devices": parsed.device, "backends": parsed.backend},
            base=path.parent,
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def build(values: Mapping[str, Any], *, base: Path | None = None) -> MachineConfig:
    """Make a configuration from plain values, such as those of a file or the command line.

    Args:
        values: fields of :class:`MachineConfig`.
        base: folder that relative paths in ``boot`` and the devices' ``path`` refer to.

    Raises:
        ConfigError: a value does not fit.
    """
    fields = dict(values)
    if base is not None:
        boot = fields.get("boot", BootConfig())
        fields["boot"] = msgspec.structs.replace(
            boot, **{k: str(base / v) for k in _PATH_KEYS if (v := getattr(boot, k))}
        )
        fields["devices"] = [
            d | {"path": str(base / d["path"])}
            if isinstance(d, dict) and isinstance(d.get("path"), str)
            else d
            for d in fields.get("devices", ())
        ]
    fields["devices"] = tuple(fields.get("devices", ()))
    try:
        return MachineConfig(**fields)
    except TypeError as error:
        raise ConfigError(f"machine configuration: {error}") from error


def device_type_name(device: DeviceConfig | Mapping[str, Any]) -> str:
    """Return the type that a device's configuration names.

    Raises:
        ConfigError: it names none.
    """
    if isinstance(device, msgspec.Struct):
        return device.type
    name = device.get("type")
    if not isinstance(name, str):
        raise ConfigError('a [[device]] table has no type: add type = "blk" or another device\'s name')
    return name


def device_config(
    device: DeviceConfig | Mapping[str, Any], types: Mapping[str, DeviceType]
) -> tuple[DeviceType, DeviceConfig]:
    """Check one device's configuration against its type.

    Raises:
        ConfigError: unknown type, unknown key or a value that does not fit.
    """
    name = device_type_name(device)
    kind = types.get(name)
    if kind is None:
        raise ConfigError(f"unknown device type {name!r}: installed are {', '.join(types)}")
    if isinstance(device, kind.config):
        return kind, device
    try:
        return kind, msgspec.convert(device, kind.config)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"device {name!r}: {error}") from error
