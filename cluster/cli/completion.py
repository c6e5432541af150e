"""`completion`: the script by which a shell completes commands, options and names."""

import click
from click.shell_completion import get_completion_class

from cluster.cli import reach

_PROGRAM = "ronin"
_VARIABLE = "_RONIN_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes the command `ronin` in a SHELL.

    For bash: eval "$(ronin completion bash)". Names of jobs and kinds come from the database.
    """
    made = get_completion_class(shell)
    if made is None:  # click has it, or has not
        raise reach.Answer(f"there is none for {shell}")
    click.echo(made(context.find_root().command, {}, _PROGRAM, _VARIABLE).source())
