# SPDX-License-Identifier: MIT
"""``vdesktop info``: what is installed here and what it can do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import msgspec

from vdesktop_core import __version__
from vdesktop_core.arch.memory_map import SLOT_COUNT, memory_map
from vdesktop_core.hypervisor import Arch
from vdesktop_core.machine import installed
from vdesktop_core.selection import probe

if TYPE_CHECKING:
    from vdesktop_core.arch.memory_map import MemoryMap
    from vdesktop_core.board import Plugins


@click.command(short_help="Show backends, devices and memory maps.")
@click.option(
    "--arch",
    type=click.Choice([arch.value for arch in Arch]),
    multiple=True,
    help="Only this architecture's map.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(arch: tuple[str, ...], *, as_json: bool) -> None:
    """Show which backends run here (or why not), the installed devices and plugins, and the memory maps."""
    report = describe(installed(), [Arch(name) for name in arch] or list(Arch))
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)


def describe(plugins: Plugins, arches: list[Arch]) -> dict[str, Any]:
    """Return the report as plain data; its shape is what ``--json`` prints."""
    return {
        "version": __version__,
        "backends": [_backend(name, probe(found)) for name, found in plugins.hypervisors.items()],
        "devices": [
            {"name": kind.name, "virtio_id": kind.virtio_id, "summary": kind.summary}
            for kind in plugins.device_types.values()
        ],
        "networks": list(plugins.behind["net"]),
        "consoles": list(plugins.behind["console"]),
        "disk_formats": list(plugins.behind["disk"]),
        "memory_maps": {arch.value: _map(memory_map(arch)) for arch in arches},
    }


def _backend(name: str, found: Any) -> dict[str, Any]:
    fields = msgspec.structs.asdict(found)
    return {"name": name} | fields | {"capabilities": sorted(fields["capabilities"])}


def _map(recommended: MemoryMap) -> list[dict[str, Any]]:
    rows = [("RAM", window.base, window.size, "") for window in recommended.ram]
    rows += [
        (name, window.base, window.size, "") for name, window in recommended.interrupt_controller.items()
    ]
    lines = recommended.slot_lines
    slots = f"{SLOT_COUNT} virtio-mmio slots, lines {lines[0]} to {lines[-1]}"
    rows.append(("slots", recommended.slots.base, recommended.slots.size, slots))
    rows.append(
        ("aperture", recommended.aperture.base, recommended.aperture.size, "shared memory, framebuffer")
    )
    uart = recommended.uart
    where = "port, " if uart.is_port else ""
    rows.append(("uart", uart.window.base, uart.window.size, f"{where}line {uart.line}"))
    if (rtc := recommended.rtc) is not None:
        rows.append(("rtc", rtc.window.base, rtc.window.size, f"{rtc.model}, line {rtc.line}"))
    rows.sort(key=lambda row: row[1])
    return [{"name": name, "base": base, "size": size, "note": note} for name, base, size, note in rows]


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column in columns:
            made.add_column(column)
        return made

    backends = table("Backends", "name", "usable", "guests", "CPUs", "why")
    for row in report["backends"]:
        usable = "[green]yes[/]" if row["available"] else "[red]no[/]"
        cpus = str(row["max_vcpus"]) if row["available"] else ""
        backends.add_row(row["name"], usable, " ".join(row["architectures"]), cpus, row["reason"])
    devices = table("Devices", "name", "virtio id", "what")
    for row in report["devices"]:
        devices.add_row(row["name"], str(row["virtio_id"]), row["summary"])
    console.print(backends, "", devices, "", sep="\n")
    for what in ("networks", "consoles", "disk_formats"):
        console.print(f"[bold]{what.replace('_', ' ').capitalize()}[/]: {' '.join(report[what])}")
    for arch, rows in report["memory_maps"].items():
        memory = table(f"Memory map, {arch}", "what", "base", "size", "")
        for row in rows:
            memory.add_row(row["name"], f"{row['base']:#x}", f"{row['size']:#x}", row["note"])
        console.print("", memory, sep="\n")
