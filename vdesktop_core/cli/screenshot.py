# SPDX-License-Identifier: MIT
"""``vdesktop screenshot``: what a running machine shows, as a PNG file."""

from __future__ import annotations

from pathlib import Path

import click

from vdesktop_core.control.client import Client


@click.command(short_help="Save what a running machine shows as a PNG file.")
@click.argument("name")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file; it is replaced. [default: NAME.png]",
)
@click.option("--screen", metavar="N", type=click.IntRange(min=0, max=1 << 16), default=0, show_default=True)
def screenshot(name: str, output: Path | None, screen: int) -> None:
    """Save what the running machine NAME shows; `vdesktop ps` lists those that run.

    Screens are counted over all display devices. The guest need have no driver: the boot framebuffer is a
    screen too.
    """
    path = output or Path(f"{name}.png")
    with Client(name) as machine:
        size = machine.call("screenshot", path=str(path.absolute()), screen=screen)
    click.echo(f"{path}: {size['width']} x {size['height']}")
