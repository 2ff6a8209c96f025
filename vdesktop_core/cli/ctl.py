# SPDX-License-Identifier: MIT
"""``vdesktop ctl``: control of a running machine, over its control socket; and ``vdesktop ps``."""

from __future__ import annotations

import contextlib
import enum
import json
from typing import TYPE_CHECKING, Any

import click

from vdesktop_core.control.client import Client, RefusedError
from vdesktop_core.control.place import names
from vdesktop_core.errors import ControlError, GuestTimeoutError, VdesktopError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from click.shell_completion import CompletionItem


class Exit(enum.IntEnum):
    """Exit statuses."""

    DONE = 0
    ERROR = 1
    TIMEOUT = 124  #: the guest did not do it in time


def _complete(found: list[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in found if name.startswith(incomplete)]


def _machines(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    with contextlib.suppress(VdesktopError):
        return _complete(names(), incomplete)
    return []


def _devices(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    parent = ctx.parent
    with contextlib.suppress(VdesktopError):
        if parent is not None and parent.params.get("name"):
            with Client(parent.params["name"]) as machine:
                slots = machine.call("status")["slots"]
            return _complete([slot["name"] for slot in slots], incomplete)
    return []


def _types(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _complete(["disk:", "net:", "console:", "rng", "input,kind=", "gpu"], incomplete)


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_timeout = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    help="How long the guest has. With --force, it is not waited for without this.",
)
_force = click.option("--force", is_flag=True, help="Do it then, whether the guest agrees or not.")


@click.group(short_help="Control a running machine.")
@click.argument("name", shell_complete=_machines)
@click.pass_context
def ctl(ctx: click.Context, /, name: str) -> None:
    """Control the running machine NAME; `vdesktop ps` lists those that run.

    Exit status: 0 done; 1 an error, in one line; 124 the guest did not do it in time.
    """
    ctx.obj = name


def _call(ctx: click.Context, do: str, /, **fields: Any) -> Any:
    """Make one request; a guest that is late ends the command with a status of its own."""
    with Client(ctx.obj) as machine:
        try:
            return machine.call(do, **fields)
        except RefusedError as error:
            if error.kind != GuestTimeoutError.__name__.removesuffix("Error"):
                raise
            click.echo(f"vdesktop: {error}", err=True)
            ctx.exit(Exit.TIMEOUT)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


@ctl.command()
@_as_json
@click.pass_context
def status(ctx: click.Context, /, *, as_json: bool) -> None:
    """Show the machine, its CPUs and its slots."""
    found = _call(ctx, "status")
    if as_json:
        _print_json(found)
        return
    cpus = found["cpus"]
    most = f" of {cpus['maximum']}" if cpus["maximum"] != cpus["start"] else ""
    click.echo(
        f"{found['name']}: {found['state']}, process {found['pid']}\n"
        f"{found['arch']} on {found['backend']}, {cpus['start']}{most} CPUs, {found['memory'] >> 20} MiB"
    )
    rows = [
        (
            str(slot["slot"]),
            slot["name"],
            slot["type"],
            f"{slot['address']:#x}",
            str(slot["line"]),
            _driver(slot),
        )
        for slot in found["slots"]
    ]
    for line in _table(("slot", "name", "type", "address", "line", "driver"), rows):
        click.echo(line)
    click.echo(f"{found['free_slots']} slots are free")


#: Device status bits, virtio 1.4 §2.1.
_DRIVER, _DRIVER_OK, _NEEDS_RESET, _FAILED = 2, 4, 64, 128


def _driver(slot: dict[str, Any]) -> str:
    status = slot["status"]
    if slot.get("lost"):
        return "lost: fails all requests until its driver lets go"
    if status & _NEEDS_RESET or status & (_DRIVER_OK | _FAILED) == _FAILED:
        return "failed"
    return "running" if status & _DRIVER_OK else "starting" if status & _DRIVER else "none"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


@ctl.command()
@_as_json
@click.pass_context
def stats(ctx: click.Context, /, *, as_json: bool) -> None:
    """Show every device's counters."""
    found = _call(ctx, "stats")
    if as_json:
        _print_json(found)
        return
    rows = [
        (device, counter, f"{value:,}")
        for device, values in found.items()
        for counter, value in values.items()
    ]
    for line in _table(("device", "counter", "value"), rows):
        click.echo(line)


@ctl.command()
@_timeout
@_force
@click.pass_context
def shutdown(ctx: click.Context, /, timeout: float | None, *, force: bool) -> None:
    """Ask the guest to power off and wait until it has. [timeout: 60 s]

    --force ends the machine: at once, or after --timeout.
    """
    _call(ctx, "shutdown", timeout=timeout, force=force)


@ctl.command()
@click.argument("slot", required=False, shell_complete=_devices)
@click.pass_context
def reset(ctx: click.Context, /, slot: str | None) -> None:
    """Reset the machine, as its reset button does; or only the device of SLOT (a number or name)."""
    _call(ctx, "reset", slot=None if slot is None else _slot(slot))


@ctl.command()
@click.pass_context
def pause(ctx: click.Context, /) -> None:
    """Stop the CPUs where they are."""
    _call(ctx, "pause")


@ctl.command()
@click.pass_context
def resume(ctx: click.Context, /) -> None:
    """Let the CPUs go on."""
    _call(ctx, "resume")


@ctl.command()
@click.argument("device", nargs=-1, required=True, shell_complete=_types)
@_as_json
@click.pass_context
def plug(ctx: click.Context, /, device: tuple[str, ...], *, as_json: bool) -> None:
    """Add devices, and print their slots.

    DEVICE is disk:FILE[,ro][,KEY=VALUE…], net:user[,…], console:SPEC, as for `vdesktop run`, or
    TYPE[,KEY=VALUE…] with the keys of a [[device]] table, such as input,kind=keyboard.
    """
    from vdesktop_core.cli.device import parse_device

    configurations = [parse_device(spec) for spec in device]
    done: list[dict[str, Any]] = []
    try:
        done.extend(_call(ctx, "plug", device=configuration) for configuration in configurations)
    finally:
        if as_json:
            _print_json(done)
        else:
            for answer in done:
                click.echo(f"{answer['name']}: slot {answer['slot']}")


@ctl.command()
@click.argument("slot", nargs=-1, required=True, shell_complete=_devices)
@_timeout
@_force
@click.pass_context
def unplug(ctx: click.Context, /, slot: tuple[str, ...], timeout: float | None, *, force: bool) -> None:
    """Remove the devices of SLOT… (numbers or names), when the guest lets go of them. [timeout: 30 s]

    --force takes them away at once, or after --timeout: a driver that keeps one gets errors from then on.
    """
    for each in slot:
        answer = _call(ctx, "unplug", slot=_slot(each), timeout=timeout, force=force)
        if not answer.get("empty", True):
            click.echo(f"{each}: taken away; its slot is free when the guest's driver lets go of it")


@ctl.command()
@click.argument("count", metavar="N", type=click.IntRange(min=1, max=1 << 16))
@_timeout
@click.pass_context
def cpus(ctx: click.Context, /, count: int, timeout: float | None) -> None:
    """Have the guest use N CPUs. [timeout: 30 s]"""
    _call(ctx, "cpus", count=count, timeout=timeout)


def _slot(text: str) -> int | str:
    if not text.isdecimal():
        return text
    number = int(text) if len(text) < 10 else 255
    return min(number, 255)


@ctl.command()
@click.pass_context
def events(ctx: click.Context, /) -> None:
    """Print what happens to the machine, a line of JSON each, until it ends."""
    import msgspec

    with Client(ctx.obj) as machine:
        for event in machine.events():
            click.echo(msgspec.json.encode(event).decode())


@click.command(short_help="List running machines.")
@_as_json
def ps(*, as_json: bool) -> None:
    """List the machines of this user that run and listen for `vdesktop ctl`."""
    found = []
    for name in names():
        with contextlib.suppress(ControlError), Client(name) as machine:
            found.append(machine.call("status"))
    if as_json:
        _print_json(found)
        return
    rows = [
        (
            row["name"],
            row["state"],
            str(row["pid"]),
            row["arch"],
            row["backend"],
            str(row["cpus"]["start"]),
            f"{row['memory'] >> 20}M",
        )
        for row in found
    ]
    for line in _table(("name", "state", "process", "arch", "backend", "CPUs", "memory"), rows):
        click.echo(line)
