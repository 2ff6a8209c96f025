# SPDX-License-Identifier: MIT
"""``vdesktop run``: the contract that scripts rely on. Exit statuses are in :class:`Exit`."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import gc
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vdesktop_core import config as configuration
from vdesktop_core.cli.stats import FORMATS, show
from vdesktop_core.errors import VdesktopError
from vdesktop_core.logs import LEVELS, set_up

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vdesktop_core.config import MachineConfig
    from vdesktop_core.machine import Result


class Exit(enum.IntEnum):
    """Exit statuses. A run that a signal ended has 128 + its number, as in a shell."""

    SHUTDOWN = 0
    ERROR = 1
    REBOOT = 10
    TIMEOUT = 124
    SIGNAL = 128


@click.command(short_help="Run a machine until its guest powers off.")
@click.argument("machine", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--name", metavar="NAME", help="For logs and `vdesktop ctl`. [default: vdesktop]")
@click.option("--backend", metavar="auto|NAME", help="What runs the guest's CPUs. [default: auto]")
@click.option("--arch", metavar="ARCH", help="x86_64, aarch64 or riscv64. [default: this host's]")
@click.option("--memory", metavar="SIZE", help="Guest RAM, such as 512M or 2G. [default: 512M]")
@click.option("--cpus", metavar="N", type=int, help="Number of vCPUs. [default: 1]")
@click.option("--max-cpus", metavar="N", type=int, help="vCPUs it may have later. [default: those of --cpus]")
@click.option("--kernel", metavar="FILE", help="Image, bzImage, vmlinux or EFI-stub kernel.")
@click.option("--initrd", metavar="FILE", help="Initial ramdisk.")
@click.option("--append", metavar="WORDS", help="Kernel command line.")
@click.option("--disk", metavar="FILE[,ro][,KEY=VALUE…]", multiple=True, help="A disk; may be given again.")
@click.option(
    "--net",
    metavar="user[,hostfwd=…]|tap=IF|none",
    multiple=True,
    help="A network card; may be given again. Replaces those of the machine file.",
)
@click.option(
    "--console",
    metavar="stdio|file:F|pty|socket:P|none",
    help="Where hvc0 goes. [default: stdio]",
)
@click.option("--debug-uart", metavar="stdio|none|…", help="A 16550 for the first messages. [default: none]")
@click.option(
    "--display",
    metavar="NAME[:…]|none",
    help="What shows the screen; adds a gpu, keyboard, tablet, touch screen and agent. [default: none]",
)
@click.option(
    "--clipboard",
    type=click.Choice(["both", "to-guest", "to-host", "off"]),
    help="Which way copies go, where there is a display. [default: both]",
)
@click.option(
    "--files/--no-files", default=None, help="Whether files may be dropped into the guest. [default: yes]"
)
@click.option(
    "--framebuffer",
    metavar="WxH|none",
    help="What a guest without a gpu driver draws on. [default: 1024x768 with a display or a gpu]",
)
@click.option("--rng/--no-rng", default=True, help="An entropy device. [default: yes]")
@click.option("--power/--no-power", default=None, help="The virtio-power device. [default: yes]")
@click.option("--control/--no-control", default=None, help="Listen for `vdesktop ctl`. [default: yes]")
@click.option("--no-reboot", is_flag=True, help="End with status 10 where the guest asks for a reset.")
@click.option(
    "--timeout", metavar="SECONDS", type=click.FloatRange(min=0, min_open=True), help="End with status 124."
)
@click.option(
    "--stats",
    is_flag=False,
    flag_value="table",
    type=click.Choice(FORMATS),
    help="Print every device's counters at the end, on standard error.",
)
@click.option("--log-level", type=click.Choice(list(LEVELS)), default="warning", show_default=True)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def run(
    ctx: click.Context,
    /,
    log_level: str,
    log_format: str,
    stats: str | None,
    timeout: float | None,
    **options: Any,
) -> None:
    """Run MACHINE, a TOML file, with what the options change or add.

    Exit status: 0 the guest powered off; 10 it rebooted under --no-reboot; 124 timed out; 1 an error, in one
    line; 128 + N ended by signal N. In a terminal, Ctrl-] q quits.
    """
    set_up(log_level, log_format)
    config = machine_config(options)
    ctx.exit(asyncio.run(_run(config, timeout, stats)))


def machine_config(options: Mapping[str, Any]) -> MachineConfig:
    """Join the machine file and the options.

    Raises:
        ConfigError: either does not make sense.
    """
    values: dict[str, Any] = {}
    if options["machine"] is not None:
        loaded = configuration.load(options["machine"])
        values = {name: getattr(loaded, name) for name in loaded.__struct_fields__}
    given = {
        k: options[k]
        for k in (
            *("name", "backend", "arch", "memory", "cpus", "max_cpus"),
            *("debug_uart", "display", "framebuffer", "power", "control"),
        )
        if options[k] is not None
    }
    values |= given
    boot = values.get("boot", configuration.BootConfig())
    values["boot"] = configuration.BootConfig(
        **{
            k: options[k] if options[k] is not None else getattr(boot, k)
            for k in ("kernel", "initrd", "append")
        }
    )
    if options["no_reboot"]:
        values["reboot"] = False
    values["devices"] = devices_of(tuple(values.get("devices", ())), options)
    if values.get("display", "none") != "none":
        values["devices"] += _desktop_devices(values["devices"])
    policy = {k: options[k] for k in ("clipboard", "files") if options[k] is not None}
    values["devices"] = _with_policy(values["devices"], policy)
    return configuration.build(values)


def devices_of(devices: Sequence[Any], options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Replace and add what the options say to a machine file's devices."""
    from vdesktop_core.devices.blk import parse_disk
    from vdesktop_core.devices.console import parse_console
    from vdesktop_core.devices.net import parse_net

    def kept(kind: str) -> bool:
        return any(configuration.device_type_name(device) == kind for device in devices)

    def without(kind: str) -> list[Any]:
        return [device for device in devices if configuration.device_type_name(device) != kind]

    if options["console"] is not None:
        devices = without("console")
    if options["console"] is not None or not kept("console"):
        devices = [parse_console(options["console"] or "stdio"), *devices]
    if options["net"]:
        devices = without("net")
        devices += [net for spec in options["net"] if (net := parse_net(spec)) is not None]
    devices = [*devices, *(parse_disk(spec) for spec in options["disk"])]
    if options["rng"] and not kept("rng"):
        devices = [*devices, {"type": "rng"}]
    return tuple(devices)


def _desktop_devices(devices: Sequence[Any]) -> tuple[Any, ...]:
    """Return what a desktop has and these devices lack: a screen, hands, and a way to the guest's agent."""
    present = {configuration.device_type_name(device) for device in devices}
    screen = () if "gpu" in present else ({"type": "gpu"},)
    hands = () if "input" in present else ("keyboard", "tablet", "touch")
    agent = () if "agent" in present else ({"type": "agent"},)
    return (*screen, *({"type": "input", "kind": kind} for kind in hands), *agent)


def _with_policy(devices: Sequence[Any], policy: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the devices with the options' word on what may pass; an agent for nothing is left out."""
    changed = []
    for device in devices:
        if configuration.device_type_name(device) == "agent":
            keys = {**device, **policy}
            if keys.get("clipboard") == "off" and keys.get("files") is False:
                continue
            changed.append(keys)
        else:
            changed.append(device)
    return tuple(changed)


async def _run(config: MachineConfig, timeout: float | None, stats: str | None) -> int:
    from vdesktop_core.machine import Machine, Outcome

    loop = asyncio.get_running_loop()
    caught: list[int] = []
    async with Machine(config, listen=True) as machine:

        def end(number: int) -> None:
            caught.append(number)
            machine.stop()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end, number)
        try:
            await machine.start()
        finally:
            gc.enable()  # main has switched it off: start-up time
        result: Result | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                result = await machine.wait()
        if stats:
            show(machine.counters(), stats)
    if caught:
        return Exit.SIGNAL + caught[0]
    if result is None:
        click.echo(f"vdesktop: {config.name}: no power-off within {timeout:g} s: ended", err=True)
        return Exit.TIMEOUT
    if result.outcome is Outcome.CRASH:
        raise VdesktopError(f"{config.name}: {result.detail or 'the guest crashed'}")
    return {Outcome.SHUTDOWN: Exit.SHUTDOWN, Outcome.REBOOT: Exit.REBOOT}.get(result.outcome, Exit.SHUTDOWN)
