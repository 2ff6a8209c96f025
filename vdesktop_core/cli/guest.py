# SPDX-License-Identifier: MIT
"""``vdesktop guest``: images to boot."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdesktop_core.guestbuild.progress import Progress

# Only names: the recipes load what a build needs, and every other command would wait for it.
_SUITES = ("trixie", "bookworm")
_FLAVOURS = ("minimal", "desktop")


@click.group()
def guest() -> None:
    """Build images to boot."""


@guest.command()
@click.option("--arch", type=click.Choice([arch.value for arch in Arch]), required=True)
@click.option("--flavour", type=click.Choice(_FLAVOURS), default="minimal", show_default=True)
@click.option("--suite", type=click.Choice(_SUITES), default="trixie", show_default=True)
@click.option("--mirror", default="", metavar="URL", help="Debian mirror; default: the one this host uses.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of downloads; default: ~/.cache/vdesktop/guests.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Folder that gets kernel, initrd, machine.toml, manifest.json and, of a desktop, disk.img.",
)
@click.option("--without-power-driver", is_flag=True, help="Do not compile the driver of virtio-power.")
def build(
    arch: str,
    flavour: str,
    suite: str,
    mirror: str,
    cache: Path | None,
    output: Path,
    *,
    without_power_driver: bool,
) -> None:
    """Build a guest from Debian's packages.

    Needs apt, dpkg and debian-archive-keyring, and neither root nor a foreign dpkg architecture. For the
    virtio-power driver: make, and a C compiler for the guest's architecture.
    """
    from vdesktop_core.guestbuild.build import GuestSpec, default_cache
    from vdesktop_core.guestbuild.build import build as build_guest

    spec = GuestSpec(
        arch=Arch(arch), suite=suite, flavour=flavour, mirror=mirror, power_driver=not without_power_driver
    )
    # As Ctrl-C: what the build has started ends with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _progress() as progress:
        build_guest(spec, output, cache or default_cache(), progress)
    click.echo(f"{output}: Debian {suite} for {arch}; start it with: vdesktop run {output / 'machine.toml'}")


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from vdesktop_core.cli.guest_progress import Bars

    with Bars() as bars:
        yield bars


class _Lines:
    """For a log: a line for each step."""

    def step(self, title: str) -> None:
        click.echo(f"guest: {title}", err=True)

    def advance(self, fraction: float) -> None:
        """Say nothing: a log has no use for percentages."""

    def note(self, line: str) -> None:
        click.echo(f"guest: {line}", err=True)
