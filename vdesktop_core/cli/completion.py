# SPDX-License-Identifier: MIT
"""``vdesktop completion``: what a shell needs to complete the command's words and machines' names."""

from __future__ import annotations

import click
from click import shell_completion

#: By this variable a shell's script asks for words.
VARIABLE = "_VDESKTOP_COMPLETE"

_FISH = r"""function %(complete_func)s
    for line in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) \
            COMP_CWORD=(commandline -t) %(prog_name)s)
        set -l word (string split -- \t $line)
        switch $word[1]
            case dir
                __fish_complete_directories $word[2]
            case file
                __fish_complete_path $word[2]
            case plain
                printf '%%s\t%%s\n' $word[2] $word[3]
        end
    end
end

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class FishComplete(shell_completion.FishComplete):
    """Words for fish, one a line; click 8.4 writes three lines a word, and its script takes each for one."""

    source_template = _FISH

    def format_completion(self, item: shell_completion.CompletionItem) -> str:
        """Return a word's line: kind, word, help."""
        return "\t".join((item.type, str(item.value), " ".join((item.help or "").split())))


def register() -> None:
    """Have click use the classes of this module."""
    shell_completion.add_completion_class(FishComplete)


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
    register()
    made = shell_completion.get_completion_class(shell)
    assert made is not None  # noqa: S101  (a choice above)
    click.echo(made(ctx.find_root().command, {}, "vdesktop", VARIABLE).source())
