# SPDX-License-Identifier: MIT
"""Progress bars on a terminal. Apart from the command, because rich takes long to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from types import TracebackType


class Bars:
    """One bar a step; those that are done stay."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        self._bars.stop()

    def step(self, title: str) -> None:
        self._finish()
        self._task = self._bars.add_task(title, total=1.0)

    def advance(self, fraction: float) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=fraction)

    def note(self, line: str) -> None:
        self._bars.console.print(line, highlight=False, markup=False)

    def _finish(self) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=1.0)
            self._bars.stop_task(self._task)
