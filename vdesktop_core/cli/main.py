# SPDX-License-Identifier: MIT
"""The ``vdesktop`` command. Subcommands are imported only when they are used: start-up time is a feature."""

from __future__ import annotations

import gc
import importlib
import os
import sys

import click

from vdesktop_core import __version__
from vdesktop_core.cli.deferred import TLS, defer
from vdesktop_core.errors import VdesktopError

_COMMANDS = {
    "run": "vdesktop_core.cli.run:run",
    "attach": "vdesktop_core.cli.attach:attach",
    "ctl": "vdesktop_core.cli.ctl:ctl",
    "ps": "vdesktop_core.cli.ctl:ps",
    "screenshot": "vdesktop_core.cli.screenshot:screenshot",
    "info": "vdesktop_core.cli.info:info",
    "guest": "vdesktop_core.cli.guest:guest",
    "completion": "vdesktop_core.cli.completion:completion",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vdesktop")
@click.pass_context
def cli(ctx: click.Context, /) -> None:
    """A desktop computer of virtio devices, on KVM, Xen or a software CPU."""
    if ctx.invoked_subcommand != "run":  # which imports on, and does so when its guest runs
        gc.enable()


def main() -> None:
    """Run the command and exit: 0, or 1 with one line that says what happened and what to do."""
    defer(*TLS)
    gc.disable()  # imports make many objects and no garbage; the command itself switches it on again
    if "_VDESKTOP_COMPLETE" in os.environ:
        from vdesktop_core.cli.completion import register

        register()
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(130)
    except getattr(click.exceptions, "NoArgsIsHelpError", ()) as error:  # since click 8.2
        click.echo(error.format_message(), err=True)
    except click.ClickException as error:
        hint = (
            f" (see '{error.ctx.command_path} --help')"
            if isinstance(error, click.UsageError) and error.ctx
            else ""
        )
        click.echo(f"vdesktop: {error.format_message()}{hint}", err=True)
    except VdesktopError as error:
        click.echo(f"vdesktop: {error}", err=True)
    sys.exit(1)
