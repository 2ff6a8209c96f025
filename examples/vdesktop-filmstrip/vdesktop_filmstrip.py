# SPDX-License-Identifier: MIT
"""A display front-end: ``--display filmstrip:FOLDER`` keeps pictures as PNG files, one a second at most."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from vdesktop_core.display.png import write_png
from vdesktop_core.errors import ConfigError, DeviceError
from vdesktop_core.hooks import hookimpl

if TYPE_CHECKING:
    from vdesktop_core.display.frontend import Desktop

SECONDS = 1.0


class Projector:
    def __init__(self, folder: Path, desktop: Desktop) -> None:
        self.folder = folder
        self.viewing = desktop.screens[0].scanouts[0].view()
        self.loop = asyncio.get_running_loop()
        self.task = self.loop.create_task(self.run())

    async def run(self) -> None:
        number = 0
        while True:
            await self.news()
            surface = self.viewing.take().surface
            if surface is not None:  # None: the guest has blanked its screen
                with contextlib.closing(surface):
                    # The guest draws on while this reads, as under a camera.
                    await asyncio.to_thread(write_png, surface, self.folder / f"{number:05}.png")
                number += 1
            await asyncio.sleep(SECONDS)

    async def news(self) -> None:
        changed = asyncio.Event()
        self.loop.add_reader(self.viewing, changed.set)
        try:
            await changed.wait()
        finally:
            self.loop.remove_reader(self.viewing)

    def close(self) -> None:
        self.task.cancel()
        self.loop.remove_reader(self.viewing)
        self.viewing.close()


class Filmstrip:
    name = "filmstrip"

    def open(self, argument: str, desktop: Desktop) -> Projector:
        if not argument:
            raise ConfigError("display filmstrip: write filmstrip:FOLDER")
        try:
            Path(argument).mkdir(exist_ok=True)
        except OSError as error:
            raise DeviceError(f"display filmstrip: cannot make {argument}: {error.strerror}") from error
        return Projector(Path(argument), desktop)


@hookimpl
def vdesktop_displays() -> list[Filmstrip]:
    return [Filmstrip()]
