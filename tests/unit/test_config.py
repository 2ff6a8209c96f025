# SPDX-License-Identifier: MIT
"""The machine's configuration: from TOML, from options, from Python."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdesktop_core import config
from vdesktop_core.devices.base import DeviceConfig, DeviceType
from vdesktop_core.errors import ConfigError
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class DiceConfig(DeviceConfig):
    sides: int = 6


TYPES: Mapping[str, DeviceType] = {
    "dice": DeviceType(
        "dice", "throws", 4, DiceConfig, lambda _config, _context: pytest.fail("not created here")
    )
}


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 << 20), ("2G", 2 << 30), ("2GiB", 2 << 30), ("64k", 64 << 10), ("4096", 4096), (77, 77)],
)
def test_parse_size_known_units_give_bytes(text: str | int, size: int) -> None:
    assert config.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "1.5G", "12 parsecs", "0x10"])
def test_parse_size_nonsense_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size") as caught:
        config.parse_size(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_parse_size_any_text_gives_size_or_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert config.parse_size(text) >= 0


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "machine.toml"
    path.write_text(text)
    return path


def test_load_full_file_resolves_paths_beside_it(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [machine]
        name = "demo"
        arch = "riscv64"
        memory = "1G"
        cpus = 2
        [boot]
        kernel = "kernel"
        append = "quiet"
        [[device]]
        type = "blk"
        path = "disk.img"
        [backend.tcg]
        cpu = "max"
        """,
    )
    machine = config.load(path)
    assert (machine.name, machine.arch, machine.memory, machine.cpus) == ("demo", Arch.RISCV64, 1 << 30, 2)
    assert machine.boot.kernel == str(tmp_path / "kernel")
    assert machine.boot.initrd == ""
    assert machine.devices[0]["path"] == str(tmp_path / "disk.img")  # type: ignore[index]
    assert machine.backends["tcg"] == {"cpu": "max"}


def test_load_absolute_path_is_kept(tmp_path: Path) -> None:
    machine = config.load(write(tmp_path, '[boot]\nkernel = "/boot/vmlinuz"'))
    assert machine.boot.kernel == "/boot/vmlinuz"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("not toml", "not TOML"),
        ("[machine]\nram = 3", "unknown field `ram`"),
        ("[machine]\narch = 'vax'", "unknown architecture 'vax'"),
        ("[machine]\nmemory = 'lots'", "not a size"),
        ("[machine]\nmemory = '1M'", "16M at least"),
        ("[machine]\ncpus = 0", "0 CPUs"),
        ("[machine]\ncpus = 255", "255 CPUs"),
        ("[machine]\ncpus = 'two'", "Expected `int"),
        ("[machine]\nname = '../x'", "machine name"),
        ("[[device]]\npath = 'x'", "no type"),
        ("device = 3", "Expected `array`"),
    ],
)
def test_load_broken_file_names_file_and_fault(tmp_path: Path, text: str, complaint: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_absent_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none.toml")


def test_device_config_unknown_type_lists_installed() -> None:
    with pytest.raises(ConfigError, match="unknown device type 'dcie': installed are dice"):
        config.device_config({"type": "dcie"}, TYPES)


@pytest.mark.parametrize("extra", [{"faces": 6}, {"sides": "six"}, {"slot": "three"}])
def test_device_config_wrong_key_or_value_is_refused(extra: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="device 'dice'"):
        config.device_config({"type": "dice", **extra}, TYPES)


def test_device_config_mapping_and_struct_agree() -> None:
    _, from_mapping = config.device_config({"type": "dice", "sides": 20}, TYPES)
    _, from_struct = config.device_config(DiceConfig(type="dice", sides=20), TYPES)
    assert from_mapping == from_struct


def test_machine_config_from_python_takes_names_and_sizes_as_text() -> None:
    machine = config.MachineConfig(arch="riscv64", memory="1G")  # type: ignore[arg-type]
    assert machine.arch is Arch.RISCV64
    assert machine.memory == 1 << 30
