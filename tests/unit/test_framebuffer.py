# SPDX-License-Identifier: MIT
"""When a machine has a boot framebuffer, of what size, and what its guest is told."""

from __future__ import annotations

from typing import Any

import pytest

from vdesktop_core.arch.command_line import screen_words
from vdesktop_core.config import MachineConfig
from vdesktop_core.display.bootfb import place_framebuffer
from vdesktop_core.errors import ConfigError
from vdesktop_core.hypervisor import Arch


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, None),
        ({"display": "vnc"}, "1024x768"),
        ({"devices": ({"type": "gpu"},)}, "1024x768"),
        ({"framebuffer": "1920x1080"}, "1920x1080"),
        ({"display": "vnc", "framebuffer": "none"}, None),
    ],
)
def test_framebuffer_is_there_with_a_screen_or_when_asked_for(
    fields: dict[str, Any], size: str | None
) -> None:
    assert MachineConfig(**fields).framebuffer_size == size


@pytest.mark.parametrize("size", ["big", "1024", "x768", "1024 x 768", "-1x5"])
def test_framebuffer_size_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(ConfigError, match="1024x768"):
        MachineConfig(framebuffer=size)


@pytest.mark.parametrize("arch", Arch)
def test_framebuffer_lies_in_the_aperture(arch: Arch) -> None:
    layout = place_framebuffer(arch, "1920x1080")
    assert layout.base == (0xC000_0000 if arch is Arch.X86_64 else 0x1000_0000)
    assert (layout.width, layout.height, layout.stride) == (1920, 1080, 7680)


def test_framebuffer_larger_than_the_aperture_is_refused() -> None:
    with pytest.raises(ConfigError, match="256 MiB"):
        place_framebuffer(Arch.X86_64, "16000x16000")


def test_screen_words_keep_the_console_that_the_user_names() -> None:
    assert screen_words("console=ttyS0 quiet")[0] == "console=tty0"
    assert "console=hvc0" not in screen_words("console=ttyS0 quiet")


def test_screen_words_without_a_console_end_with_the_virtio_console() -> None:
    assert screen_words("quiet")[-1] == "console=hvc0"


def test_screen_words_map_the_consoles_people_use_to_the_second_framebuffer_and_one_to_the_first() -> None:
    (mapping,) = (word.removeprefix("fbcon=map:") for word in screen_words("") if "map" in word)
    assert set(mapping[:7]) == {"1"}
    assert "0" in mapping
