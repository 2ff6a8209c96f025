# SPDX-License-Identifier: MIT
"""The machine and its life cycle.

::

    created --start--> running <--pause/resume--> paused
       running --guest reset--> running (or ended, where reboot is off)
       running/paused --guest power-off, crash, stop--> ended --aclose--> closed
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Self

from vdesktop_core import selection
from vdesktop_core.board import Board, Plugins
from vdesktop_core.errors import GuestTimeoutError, VdesktopError
from vdesktop_core.hooks import by_name, plugin_manager
from vdesktop_core.hypervisor import ExitReason, OrderedMachine, VmEvent
from vdesktop_core.life import Outcome, Result, State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

    import pluggy

    from vdesktop_core.config import MachineConfig
    from vdesktop_core.control.door import ControlDoor
    from vdesktop_core.devices.base import DeviceConfig
    from vdesktop_core.display.frontend import Desktop, Display
    from vdesktop_core.hotplug import Hotplug
    from vdesktop_core.hypervisor import Order
    from vdesktop_core.power import MachinePower
    from vdesktop_core.status import MachineStatus

__all__ = ["Machine", "Outcome", "Result", "State", "installed"]

log = logging.getLogger(__name__)


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
            "renderer": by_name(hook.vdesktop_gpu_renderers(), "renderer"),
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
        listen: open a control socket where the configuration does not say, and one can be had.
    """

    def __init__(
        self, config: MachineConfig, *, plugins: Plugins | None = None, listen: bool = False
    ) -> None:
        self.config = config
        self.state = State.CREATED
        self._plugins = plugins
        self._board: Board | None = None
        self._display: Display | None = None
        self._ended: asyncio.Future[Result] | None = None
        self._listens = listen if config.control is None else config.control
        self._door: ControlDoor | None = None
        self._listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self._hotplug: Hotplug | None = None
        self._orders: asyncio.Future[None] | None = None
        #: The virtio-power device's counterpart, where the machine has one, from shortly after the start.
        self.power: MachinePower | None = None

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
            plugins.hypervisors, self.config.backend, self.config.arch, self.config.vcpus
        )
        self._ended = loop.create_future()
        self._loop = loop
        if self._listens:
            from vdesktop_core.control.door import ControlDoor

            self._door = ControlDoor.open(self)
        try:
            board = Board(self.config, plugins, hypervisor, loop.call_soon_threadsafe)
        except BaseException:
            self._close_control()
            raise
        try:
            if self.config.display != "none":
                from vdesktop_core.display.frontend import open_display

                self._display = open_display(self.config.display, plugins.behind["display"], board.desktop())
            board.load_guest()
            loop.add_reader(board.slots.event_fd, self._dispatch)
            loop.add_reader(board.host.fileno(), board.host.drain_log)
            if isinstance(board.vm, OrderedMachine):
                board.vm.on_order(self._take_order)
            board.vm.start(self._heard)
        except BaseException:
            self._forget(board)
            raise
        self._board = board
        self.backend = hypervisor.name
        self._change(State.RUNNING)
        if self.config.power:
            loop.call_soon(self._attach_power)
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
        self._change(State.PAUSED)

    def resume(self) -> None:
        """Let the vCPUs go on."""
        self._expect(State.PAUSED)
        self._live().vm.resume()
        self._change(State.RUNNING)

    def reset(self) -> None:
        """Start again from the kernel's entry, as the machine's reset button does.

        Devices that were plugged in meanwhile stay.
        """
        self._expect(State.RUNNING, State.PAUSED)
        board = self._live()
        board.vm.stop()
        board.reset()
        board.load_guest()
        if self.power is not None:
            self.power.reset()
        self.publish("reset")
        board.vm.start(self._heard)
        self._change(State.RUNNING)

    def stop(self) -> None:
        """End the run now, without asking the guest. Acknowledged writes are kept."""
        if self.state in (State.RUNNING, State.PAUSED):
            self._live().vm.stop()
            self._end(Result(Outcome.STOPPED))

    async def shutdown(self, *, timeout: float = 60.0, force: bool = False) -> Result:
        """Ask the guest to power off, as a press of the power button does, and wait until it has.

        Args:
            timeout: seconds to wait.
            force: end the run then, whatever the guest does.

        Raises:
            VdesktopError: there is no way to ask this guest, or it has not powered off in time.
        """
        if self.state is State.ENDED:
            return await self.wait()
        try:
            self._expect(State.RUNNING)
            deadline = asyncio.get_running_loop().time() + timeout
            await self.hotplug.power_off(timeout)
            async with asyncio.timeout_at(deadline):
                return await self.wait()
        except (VdesktopError, TimeoutError) as error:
            if not force:
                if isinstance(error, VdesktopError):
                    raise
                raise GuestTimeoutError(
                    f"machine {self.config.name!r} has not powered off within {timeout:g} s: "
                    f"look at its console, or force it"
                ) from error
        self.stop()
        return await self.wait()

    async def plug(self, device: DeviceConfig | Mapping[str, Any]) -> int:
        """Add a device to the running machine, tell the guest, and return the device's slot.

        Args:
            device: a typed configuration, or a mapping with at least ``type``: a ``[[device]]`` table.

        Raises:
            VdesktopError: it cannot be made or there is no place for it; nothing is left behind.
        """
        self._expect(State.RUNNING, State.PAUSED)
        return await self.hotplug.plug(device)

    async def unplug(self, slot: int | str, *, timeout: float = 30.0, force: bool = False) -> bool:
        """Remove a device. When this returns, all it acknowledged is kept and nothing uses it any more.

        Args:
            slot: its slot or name.
            timeout: seconds that the guest has to let go of it.
            force: take it away then, in any case: requests that it has are completed or failed. While its
                driver keeps it, the slot is not empty: it fails all requests. Forced again, it is empty.

        Returns:
            Whether the slot is empty. False only with ``force``.

        Raises:
            VdesktopError: there is no such device, or the guest keeps it.
        """
        self._expect(State.RUNNING, State.PAUSED)
        return await self.hotplug.unplug(slot, timeout=timeout, force=force)

    async def set_cpus(self, count: int, *, timeout: float = 30.0) -> None:
        """Have the guest use ``count`` CPUs, 1 to the configuration's ``max_cpus``.

        Raises:
            VdesktopError: out of range, or the guest cannot be asked.
            GuestTimeoutError: it has not done it within ``timeout`` seconds.
        """
        self._expect(State.RUNNING)
        await self.hotplug.set_cpus(count, timeout=timeout)

    def reset_device(self, slot: int | str) -> None:
        """Reset one device. Its driver is told nothing: it finds the device's status 0."""
        self._expect(State.RUNNING, State.PAUSED)
        board = self._live()
        board.slots.reset(board.slots.find(slot).slot)

    @property
    def board(self) -> Board:
        """The hardware of the running machine.

        Raises:
            VdesktopError: it is not running.
        """
        return self._live()

    @property
    def hotplug(self) -> Hotplug:
        """What changes the hardware of the running machine."""
        if self._hotplug is None:
            from vdesktop_core.hotplug import Hotplug

            self._hotplug = Hotplug(self)
        return self._hotplug

    @property
    def control_path(self) -> Path | None:
        """Where the control socket lies, if this machine has one."""
        return None if self._door is None else self._door.path

    def status(self) -> MachineStatus:
        """Return what there is to know about the machine."""
        from vdesktop_core.status import machine_status

        return machine_status(self)

    def subscribe(self, listener: Callable[[str, dict[str, Any]], None]) -> Callable[[], None]:
        """Have a function called with each event's name and detail; returns how to stop that.

        Events: ``state`` (state), ``reset``, ``plugged``, ``lost`` and ``unplugged`` (slot, name, type),
        ``cpus`` (count), ``ended`` (outcome, detail).
        """
        self._listeners.append(listener)

        def stop() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return stop

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
        if self._orders is not None:
            self._orders.cancel()
        if self._door is not None:
            await self._door.finish()
        board, self._board = self._board, None
        if board is not None:
            self._forget(board)
        self._close_control()
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
        self._loop.remove_reader(board.slots.event_fd)
        self._loop.remove_reader(board.host.fileno())
        board.host.drain_log()
        board.close()
        if self._board is None:
            self._close_control()

    def _close_control(self) -> None:
        if self._door is not None:
            self._door.close()
            self._door = None

    def _attach_power(self) -> None:
        if self._board is not None and self.power is None:
            from vdesktop_core.power import MachinePower

            try:
                self.power = MachinePower(self)
            except VdesktopError as error:
                log.error("slot 0 stays empty: %s", error)  # noqa: TRY400  (one line, for a person)

    def _change(self, state: State) -> None:
        self.state = state
        self.publish("state", state=str(state))
        if self._hotplug is not None:
            self._hotplug.wake()

    def publish(self, event: str, **detail: Any) -> None:
        """Tell those who subscribed of an event."""
        for listener in [*self._listeners]:
            listener(event, detail)

    def _dispatch(self) -> None:
        self._live().slots.dispatch()
        if self._hotplug is not None:
            self._hotplug.wake()

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
        self._loop.call_soon_threadsafe(self.guest_event, event)

    def _take_order(self, order: Order, last: bool) -> bool:
        """Implement :class:`~vdesktop_core.hypervisor.OrderedMachine`'s function, on a backend's thread."""
        takes = last or (self.power is not None and self.power.device.driver_ready)
        if takes:
            self._loop.call_soon_threadsafe(self._carry_out, order)
        return takes

    def _carry_out(self, order: Order) -> None:
        if self.state is State.RUNNING:
            self._orders = asyncio.ensure_future(self.hotplug.carry_out(order))

    def guest_event(self, event: VmEvent) -> None:
        """Act on what the guest decided of the whole machine: on the control loop."""
        if self.state not in (State.RUNNING, State.PAUSED):
            return
        if event.reason is ExitReason.SHUTDOWN and self._hotplug is not None and self._hotplug.restarting:
            event = VmEvent(ExitReason.RESET)
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
        self._change(State.ENDED)
        self.publish("ended", outcome=str(result.outcome), detail=result.detail)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(result)
