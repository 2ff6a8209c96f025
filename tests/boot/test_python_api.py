# SPDX-License-Identifier: MIT
"""Machines from Python, as in a REPL or in somebody's own tests."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vdesktop_core.config import BootConfig, MachineConfig
from vdesktop_core.errors import VdesktopError
from vdesktop_core.machine import Machine, Outcome, State

if TYPE_CHECKING:
    from guest import Image

#: Far more than a boot takes: no test is about time.
PATIENCE = 150


def configuration(image: Image, console: Path, command: str, **values: object) -> MachineConfig:
    return MachineConfig(
        name=f"api-{image.arch}",
        arch=image.arch,
        boot=BootConfig(
            kernel=str(image.folder / "kernel"),
            initrd=str(image.folder / "initrd"),
            append=f'quiet console=hvc0 vdesktop.run="{command}"',
        ),
        devices=({"type": "console", "ports": [{"backend": f"file:{console}"}]}, {"type": "rng"}),
        **values,
    )


async def test_run_returns_how_the_guest_ended(arch_image: Image, tmp_path: Path) -> None:
    console = tmp_path / "console"
    machine = Machine(configuration(arch_image, console, "echo sum=$((40+2)); poweroff"))
    result = await asyncio.wait_for(machine.run(), PATIENCE)
    assert result.outcome is Outcome.SHUTDOWN
    assert machine.state is State.CLOSED
    assert "sum=42" in console.read_text()


async def test_two_machines_in_one_process_do_not_disturb_each_other(
    arch_image: Image, tmp_path: Path
) -> None:
    consoles = [tmp_path / "first", tmp_path / "second"]
    command = (
        "i=0; while [ $i -lt 300 ]; do /bin/busybox true || echo bad; i=$((i+1)); done; echo n=$i; poweroff"
    )
    runs = [Machine(configuration(arch_image, console, command)).run() for console in consoles]
    results = await asyncio.wait_for(asyncio.gather(*runs), 2 * PATIENCE)
    assert [result.outcome for result in results] == [Outcome.SHUTDOWN] * 2
    for console in consoles:
        text = console.read_text()
        assert "n=300" in text
        assert "bad" not in text


async def test_pause_stops_the_guest_and_resume_lets_it_go_on(arch_image: Image, tmp_path: Path) -> None:
    console = tmp_path / "console"
    command = "i=0; while [ $i -lt 100000 ]; do echo $i; i=$((i+1)); done"
    async with Machine(configuration(arch_image, console, command)) as machine:
        await machine.start()
        await grows(console, 0)
        machine.pause()
        assert machine.state is State.PAUSED
        before = machine.counters()["vm"]["run_ns"]
        await asyncio.sleep(0.3)
        size = console.stat().st_size  # what was in flight has been written
        await asyncio.sleep(0.3)
        assert console.stat().st_size == size
        assert machine.counters()["vm"]["run_ns"] == before
        machine.resume()
        await grows(console, size)


async def test_reset_starts_the_guest_again(arch_image: Image, tmp_path: Path) -> None:
    console = tmp_path / "console"
    async with Machine(configuration(arch_image, console, "echo up; sleep 1000")) as machine:
        await machine.start()
        await says(console, "up", 1)
        machine.reset()
        await says(console, "up", 2)
        machine.stop()
        assert (await machine.wait()).outcome is Outcome.STOPPED


async def test_machine_that_ended_refuses_to_pause(arch_image: Image, tmp_path: Path) -> None:
    machine = Machine(configuration(arch_image, tmp_path / "console", "poweroff"))
    with pytest.raises(VdesktopError, match="is created"):
        machine.pause()
    await asyncio.wait_for(machine.run(), PATIENCE)
    with pytest.raises(VdesktopError, match="is closed"):
        machine.pause()
    with pytest.raises(VdesktopError, match="is closed"):
        await machine.start()


async def test_fifty_machines_one_after_another_leave_nothing_behind(
    arch_image: Image, tmp_path: Path
) -> None:
    config = configuration(arch_image, tmp_path / "console", "poweroff")

    async def short_life() -> None:
        async with Machine(config) as machine:
            await machine.start()
            await asyncio.sleep(0.01)

    for _ in range(3):  # what is kept for good: the engine's library, caches
        await short_life()
    descriptors, threads, mappings = held()
    for _ in range(50):
        await short_life()
    after = held()
    assert after[:2] == (descriptors, threads)
    assert after[2] <= mappings + 20  # allocators keep a few; a leak would be hundreds


def held() -> tuple[int, int, int]:
    """Open descriptors, threads, and memory mappings of this process."""
    mappings = len(Path("/proc/self/maps").read_text().splitlines())
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), mappings


async def grows(path: Path, size: int) -> None:
    """Wait until a file is longer than ``size``."""
    async with asyncio.timeout(PATIENCE):
        while not path.exists() or path.stat().st_size <= size:
            await asyncio.sleep(0.05)


async def says(path: Path, word: str, times: int) -> None:
    """Wait until a word stands so often in a file."""
    async with asyncio.timeout(PATIENCE):
        while not path.exists() or path.read_text(errors="replace").split().count(word) < times:
            await asyncio.sleep(0.05)
