"""`edgepack completion`: what a shell needs to complete commands, options, targets and recipes."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print the script that completes commands in a shell.

    \b
    Examples:
      bash:  echo 'eval "$(edgepack completion bash)"' >> ~/.bashrc
      zsh:   echo 'eval "$(edgepack completion zsh)"' >> ~/.zshrc
      fish:  edgepack completion fish > ~/.config/fish/completions/edgepack.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # click.Choice allows only what click has
    completer = kind(ctx.find_root().command, {}, "edgepack", "_EDGEPACK_COMPLETE")
    # Not completer.source(): it first runs the shell to see its version, and fails where only the script is wanted.
    click.echo(completer.source_template % completer.source_vars())
