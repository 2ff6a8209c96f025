# SPDX-License-Identifier: MIT
"""``vdesktop completion``: what a shell needs to complete the command's words and machines' names."""

from __future__ import annotations

import click


@click.command(short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    r"""Print the completion script of a shell, to be kept where it looks for them.

    \b
    bash: vdesktop completion bash >~/.local/share/bash-completion/completions/vdesktop
    zsh:  vdesktop completion zsh >~/.zfunc/_vdesktop    (with ~/.zfunc in fpath)
    fish: vdesktop completion fish >~/.config/fish/completions/vdesktop.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101  (a choice above)
    click.echo(made(ctx.find_root().command, {}, "vdesktop", "_VDESKTOP_COMPLETE").source())
