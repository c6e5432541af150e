"""Commands: all of them, and what the command without one does."""

import sys

import click

from cluster.cli import asking, completion, config, jobs, status, tasks, upkeep
from cluster.settings import load_or_exit

_EPILOG = """
\b
Exit status:
  0    fine
  1    the answer is no: not found, refused, a violation, a setting that
       makes no sense, or with --wait a run that did not complete
  2    a command that makes no sense, or the database can't be reached
  130  Ctrl-C while a run was waited for, which goes on
  143  SIGTERM
"""


@click.group(
    invoke_without_command=True,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.pass_context
def ronin(context: click.Context) -> None:
    """Ronin's cluster, from a terminal.

    Asks the database that DATABASE_URL names, or the embedded one of RONIN_DATA. Times are UTC.
    Without a command: exit status 0 if the settings make sense.
    """
    if context.invoked_subcommand is None:
        load_or_exit()
        if sys.stdout.isatty():
            click.echo("The settings make sense. --help lists the commands.")


for command in (
    *(status.status, status.workers),
    *(jobs.jobs, jobs.history, jobs.pause, jobs.resume),
    *(asking.run, tasks.tasks, tasks.task, tasks.cancel, tasks.retry),
    *(upkeep.migrate, upkeep.verify, config.config, completion.completion),
):
    ronin.add_command(command)
