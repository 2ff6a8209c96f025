# SPDX-License-Identifier: MIT
"""``vdesktop attach``: devices for a machine of the hypervisor's own tools."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vdesktop_core.cli.run import Exit, devices_of
from vdesktop_core.cli.stats import FORMATS, show
from vdesktop_core.errors import BackendError, VdesktopError
from vdesktop_core.hypervisor import Arch
from vdesktop_core.logs import LEVELS, set_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vdesktop_core.hypervisor import VmEvent


@click.command(short_help="Give devices to a machine that the hypervisor's tools made.")
@click.option("--backend", metavar="NAME", default="xen", show_default=True, help="The hypervisor.")
@click.option("--domain", metavar="NAME|ID", required=True, help="The machine, which does not run yet.")
@click.option("--disk", metavar="FILE[,ro][,KEY=VALUE…]", multiple=True, help="A disk; may be given again.")
@click.option("--net", metavar="user[,hostfwd=…]|tap=IF|none", multiple=True, help="A network card.")
@click.option("--console", metavar="stdio|file:F|pty|socket:P|none", default="none", show_default=True)
@click.option("--rng/--no-rng", default=True, help="An entropy device. [default: yes]")
@click.option(
    "--ssdt",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the ACPI table that tells a guest of the devices (xl: acpi_firmware).",
)
@click.option(
    "--stats",
    is_flag=False,
    flag_value="table",
    type=click.Choice(FORMATS),
    help="Print every device's counters at the end, on standard error.",
)
@click.option("--log-level", type=click.Choice(list(LEVELS)), default="warning", show_default=True)
@click.pass_context
def attach(
    ctx: click.Context,
    /,
    backend: str,
    domain: str,
    ssdt: Path | None,
    stats: str | None,
    log_level: str,
    **options: Any,
) -> None:
    """Serve devices to a machine until it ends, or a signal comes; the machine is left where it is.

    With --ssdt, the table is written, and nothing is attached: the guest needs it when it is made.
    """
    set_up(log_level, "text")
    ctx.exit(asyncio.run(_attach(backend, domain, devices_of((), options), ssdt, stats)))


async def _attach(
    backend: str, domain: str, devices: Sequence[Any], ssdt: Path | None, stats: str | None
) -> int:
    from vdesktop_core.attachment import Attachment, describe
    from vdesktop_core.machine import installed
    from vdesktop_core.selection import probe

    plugins = installed()
    hypervisor = plugins.hypervisors.get(backend)
    if hypervisor is None:
        raise BackendError(
            f"backend {backend!r} is not installed: choose from {', '.join(plugins.hypervisors)}"
        )
    if ssdt is not None:
        ssdt.write_bytes(describe(Arch.X86_64, devices, plugins))
        return Exit.SHUTDOWN
    found = probe(hypervisor)
    if not found.available:
        raise BackendError(f"{backend}: {found.reason}")
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[VmEvent | int] = loop.create_future()

    def end(why: VmEvent | int) -> None:
        if not ended.done():
            ended.set_result(why)

    def heard(event: VmEvent) -> None:
        loop.call_soon_threadsafe(end, event)

    attachment = Attachment(hypervisor, domain, devices, plugins, loop.call_soon_threadsafe)
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end, number)
        loop.add_reader(attachment.slots.event_fd, attachment.slots.dispatch)
        loop.add_reader(attachment.host.fileno(), attachment.host.drain_log)
        attachment.start(heard)
        click.echo(f"vdesktop: {domain} has its devices: it may run", err=True)
        why = await ended
        if stats:
            show(attachment.counters(), stats)
    finally:
        loop.remove_reader(attachment.slots.event_fd)
        loop.remove_reader(attachment.host.fileno())
        attachment.close()
    if isinstance(why, int):
        return Exit.SIGNAL + why
    if why.reason in ("crash", "error"):
        raise VdesktopError(f"{domain}: {why.detail}")
    return Exit.SHUTDOWN
