# SPDX-License-Identifier: MIT
"""The screen, degrading gracefully: with no driver, with virtio-gpu's, and with none again after a reset."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
from guest import find_image, vdesktop
from person import SHELL, Eyes, Person

from vdesktop_core import config as configuration
from vdesktop_core.devices.console import parse_console
from vdesktop_core.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from vdesktop_core.config import MachineConfig

#: Of the boot framebuffer and of the gpu, so that a picture tells whose it is.
BOOT, DRIVER = (1024, 768), (800, 600)
#: Bright pixels of some lines of text.
TEXT = 3000


def machine_with(
    arch: str, console: Path, *devices: dict[str, object], suite: str = "trixie"
) -> MachineConfig:
    loaded = configuration.load(find_image(arch, suite).folder / "machine.toml")
    return msgspec.structs.replace(
        loaded,
        boot=msgspec.structs.replace(
            loaded.boot, append=f'console=hvc0 modprobe.blacklist=virtio_gpu vdesktop.run="{SHELL}"'
        ),
        framebuffer="x".join(map(str, BOOT)),
        devices=(parse_console(f"file:{console}"), *devices, {"type": "input", "kind": "keyboard"}),
    )


@pytest.mark.parametrize(
    "image", ["x86_64-trixie", "x86_64-bookworm", "aarch64-trixie", "aarch64-bookworm", "riscv64-trixie"]
)
async def test_screen_without_a_driver_then_with_it_then_after_a_reboot(image: str, tmp_path: Path) -> None:
    arch, _, suite = image.partition("-")
    console = tmp_path / "console"
    gpu = {"type": "gpu", "width": DRIVER[0], "height": DRIVER[1]}
    async with Machine(machine_with(arch, console, gpu, suite=suite)) as machine:
        await machine.start()
        person, eyes = Person(machine, console), Eyes(machine, tmp_path)

        # Its driver is not loaded: the kernel's lines are there all the same, and typed text is.
        boot = await eyes.see("1-boot", lambda picture: picture.lit > TEXT)
        assert boot.size == BOOT
        await person.sees(lambda text: "\nshell\n" in text)
        await person.type("echo Typed-without-a-driver\n")
        await person.sees(lambda text: "\nTyped-without-a-driver\n" in text)
        await eyes.see("2-blacklisted", lambda picture: picture.size == BOOT and picture.rgb != boot.rgb)
        assert machine.counters()["gpu0"]["commands"] == 0

        await person.type("modprobe virtio_gpu\n")
        driver = await eyes.see("3-driver", lambda picture: picture.size == DRIVER and picture.lit > 0)
        await person.type("dmesg\n")
        await eyes.see("4-typed", lambda picture: picture.rgb != driver.rgb and picture.lit > TEXT)
        counters = machine.counters()
        assert counters["gpu0"]["flushes"] > 0
        assert counters["gpu0"]["errors"] == 0

        await person.type("reboot -f\n")
        await eyes.see("5-again", lambda picture: picture.size == BOOT and picture.lit > TEXT)


async def test_screenshot_of_a_machine_without_a_gpu_has_the_boot_framebuffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    config = msgspec.structs.replace(machine_with("x86_64", tmp_path / "console"), name="photo", control=True)
    async with Machine(config) as machine:
        await machine.start()
        seen = await Eyes(machine, tmp_path).see("boot", lambda picture: picture.lit > TEXT)
        assert seen.size == BOOT
        command = vdesktop("screenshot", "photo", "-o", tmp_path / "photo.png")
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
    assert (process.returncode, said.decode()) == (0, f"{tmp_path / 'photo.png'}: 1024 x 768\n")
    assert (tmp_path / "photo.png").stat().st_size > 5000
