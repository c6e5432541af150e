"""Command line: what an operator sees and does from a terminal; `python -m cluster`, or `ronin`.

It asks the database itself, so it works beside a cluster and without one.
"""

import logging
import signal
import sys
from types import FrameType

import click

from cluster import log
from cluster.cli.commands import ronin


def main() -> None:
    """Do what the command line of this process says, and end it with the exit status."""
    log.configure("auto")  # to standard error, where it disturbs nobody's JSON
    logging.getLogger().setLevel(logging.WARNING)
    try:
        " ".join(sys.argv).encode()
    except UnicodeEncodeError:
        click.echo("ronin: a word of the command is no UTF-8", err=True)
        sys.exit(2)
    signal.signal(signal.SIGTERM, _end)
    ronin()


def _end(number: int, _frame: FrameType | None) -> None:
    """End with the exit status that a shell shows for the signal, and leave all in order."""
    # By itself the signal would leave a terminal on another screen and without a cursor.
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)
