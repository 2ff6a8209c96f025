# SPDX-License-Identifier: MIT
"""The machine and its life cycle.

::

    created --start--> running <--pause/resume--> paused
       running --guest reset--> running (or ended, where reboot is off)
       running/paused --guest power-off, crash, stop--> ended --aclose--> closed
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import TYPE_CHECKING, Self

import msgspec

from vdesktop_core import selection
from vdesktop_core.board import Board, Plugins
from vdesktop_core.errors import VdesktopError
from vdesktop_core.hooks import by_name, plugin_manager
from vdesktop_core.hypervisor import ExitReason, VmEvent

if TYPE_CHECKING:
    from types import TracebackType

    import pluggy

    from vdesktop_core.config import MachineConfig
    from vdesktop_core.display.frontend import Desktop, Display

log = logging.getLogger(__name__)


class State(enum.StrEnum):
    """Where a machine is in its life."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"
    CLOSED = "closed"


class Outcome(enum.StrEnum):
    """How a run ended."""

    SHUTDOWN = "shutdown"  #: the guest powered itself off
    REBOOT = "reboot"  #: the guest asked for a reset and ``reboot`` is off
    CRASH = "crash"  #: the guest or the backend cannot go on
    STOPPED = "stopped"  #: this side asked for it


class Result(msgspec.Struct, frozen=True):
    """The end of a run. ``detail`` is one line for a person, or empty."""

    outcome: Outcome
    detail: str = ""


def installed(manager: pluggy.PluginManager | None = None) -> Plugins:
    """Collect what the installed plugins provide.

    Raises:
        ConfigError: two plugins use one name.
    """
    hook = (manager or plugin_manager()).hook
    return Plugins(
        hypervisors=by_name(hook.vdesktop_hypervisors(), "backend"),
        device_types=by_name(hook.vdesktop_device_types(), "device type"),
        behind={
            "net": by_name(hook.vdesktop_net_backends(), "network"),
            "console": by_name(hook.vdesktop_console_backends(), "console"),
            "disk": by_name(hook.vdesktop_disk_formats(), "disk format"),
            "display": by_name(hook.vdesktop_displays(), "display"),
        },
    )


class Machine:
    """One virtio-desktop machine.

    Use it as a context manager, or call :meth:`run`, which does it all::

        async with Machine(config) as machine:
            await machine.start()
            result = await machine.wait()

    Every method but :meth:`counters` belongs to the thread of the running asyncio loop.

    Args:
        config: what the machine is made of.
        plugins: what it may be made from; default: everything installed.
    """

    def __init__(self, config: MachineConfig, *, plugins: Plugins | None = None) -> None:
        self.config = config
        self.state = State.CREATED
        self._plugins = plugins
        self._board: Board | None = None
        self._display: Display | None = None
        self._ended: asyncio.Future[Result] | None = None

    async def run(self) -> Result:
        """Start, wait for the end, and take the machine apart.

        Raises:
            VdesktopError: the machine could not be built or started; nothing is left behind.
        """
        async with self:
            await self.start()
            return await self.wait()

    async def start(self) -> None:
        """Build the machine and run its first instruction.

        Raises:
            VdesktopError: one line; nothing is left behind.
        """
        self._expect(State.CREATED)
        plugins = self._plugins or installed()
        loop = asyncio.get_running_loop()
        hypervisor = selection.choose(
            plugins.hypervisors, self.config.backend, self.config.arch, self.config.cpus
        )
        self._ended = loop.create_future()
        self._loop = loop
        board = Board(self.config, plugins, hypervisor, loop.call_soon_threadsafe)
        try:
            if self.config.display != "none":
                from vdesktop_core.display.frontend import open_display

                self._display = open_display(self.config.display, plugins.behind["display"], board.desktop())
            board.load_guest()
            loop.add_reader(board.event_fd, board.dispatch_events)
            loop.add_reader(board.host.fileno(), board.host.drain_log)
            board.vm.start(self._heard)
        except BaseException:
            self._forget(board)
            raise
        self._board = board
        self.state = State.RUNNING
        log.info("started on %s: %s, %d CPUs", hypervisor.name, self.config.arch, self.config.cpus)

    async def wait(self) -> Result:
        """Wait for the end of the run. May be cancelled: the machine runs on."""
        if self._ended is None:
            raise VdesktopError(f"machine {self.config.name!r} was not started")
        return await asyncio.shield(self._ended)

    def pause(self) -> None:
        """Stop the vCPUs where they are; devices finish what they were given."""
        self._expect(State.RUNNING)
        self._live().vm.pause()
        self.state = State.PAUSED

    def resume(self) -> None:
        """Let the vCPUs go on."""
        self._expect(State.PAUSED)
        self._live().vm.resume()
        self.state = State.RUNNING

    def reset(self) -> None:
        """Start again from the kernel's entry, as the machine's reset button does."""
        self._expect(State.RUNNING, State.PAUSED)
        board = self._live()
        board.vm.stop()
        board.reset()
        board.load_guest()
        board.vm.start(self._heard)
        self.state = State.RUNNING

    def stop(self) -> None:
        """End the run now, without asking the guest. Acknowledged writes are kept."""
        if self.state in (State.RUNNING, State.PAUSED):
            self._live().vm.stop()
            self._end(Result(Outcome.STOPPED))

    @property
    def desktop(self) -> Desktop:
        """Screens and input devices of the running machine, whatever shows them."""
        return self._live().desktop()

    def counters(self) -> dict[str, dict[str, int]]:
        """Return monotonic counters by device name; the backend's are under ``vm``."""
        return self._live().counters()

    async def aclose(self) -> None:
        """End the run and free everything. Idempotent."""
        self.stop()
        board, self._board = self._board, None
        if board is not None:
            self._forget(board)
        self.state = State.CLOSED

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _forget(self, board: Board) -> None:
        if self._display is not None:
            self._display.close()
            self._display = None
        self._loop.remove_reader(board.event_fd)
        self._loop.remove_reader(board.host.fileno())
        board.host.drain_log()
        board.close()

    def _expect(self, *states: State) -> None:
        if self.state not in states:
            wanted = " or ".join(states)
            raise VdesktopError(f"machine {self.config.name!r} is {self.state}: this needs it {wanted}")

    def _live(self) -> Board:
        if self._board is None:
            raise VdesktopError(f"machine {self.config.name!r} is not running: start it first")
        return self._board

    def _heard(self, event: VmEvent) -> None:
        """Take news from a backend's thread over to the control loop."""
        self._loop.call_soon_threadsafe(self._on_event, event)

    def _on_event(self, event: VmEvent) -> None:
        if self.state not in (State.RUNNING, State.PAUSED):
            return
        if event.reason is ExitReason.RESET and self.config.reboot:
            log.info("the guest asked for a reset")
            try:
                self.reset()
            except VdesktopError as error:
                self._end(Result(Outcome.CRASH, f"reset failed: {error}"))
            return
        self._live().vm.stop()
        outcome = {ExitReason.SHUTDOWN: Outcome.SHUTDOWN, ExitReason.RESET: Outcome.REBOOT}.get(
            event.reason, Outcome.CRASH
        )
        self._end(Result(outcome, event.detail))

    def _end(self, result: Result) -> None:
        self.state = State.ENDED
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(result)
