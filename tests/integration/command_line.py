"""The command line in this process, over a test's own database."""

from typing import Any, cast

import orjson
from click.testing import CliRunner, Result

from cluster.cli import reach
from cluster.cli.commands import ronin
from cluster.database import Pool

WHO = reach.who()
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
"""A database that nobody has."""


class CommandLine:
    """Commands as an operator types them, with their output in a pipe of 80 columns.

    Args:
        pool: on the database they ask.
    """

    def __init__(self, pool: Pool) -> None:
        self._url = pool.conninfo

    def run(self, *words: object, **settings: str | None) -> Result:
        """Do what the words say."""
        return command(*words, **{"DATABASE_URL": cast(str, self._url), **settings})

    def json(self, *words: object) -> Any:
        """Return the JSON that a command prints."""
        done = self.run(*words, "--json")
        assert (done.exit_code, done.stderr) == (0, ""), done.output
        return orjson.loads(done.stdout)

    def lines(self, *words: object) -> list[str]:
        """Return the lines that a command prints."""
        done = self.run(*words)
        assert (done.exit_code, done.stderr) == (0, ""), done.output
        return done.stdout.splitlines()

    def refused(self, *words: object) -> str:
        """Return the only line of a command whose answer is no."""
        done = self.run(*words)
        assert (done.exit_code, done.stdout) == (1, ""), done.output
        (line,) = done.stderr.splitlines()
        assert line.startswith("ronin: "), line
        return line.removeprefix("ronin: ")


def command(*words: object, **settings: str | None) -> Result:
    """Do what the words say, with these settings and no others of the command line's."""
    variables = {"COLUMNS": "80", "NO_COLOR": None, "FORCE_COLOR": None, **settings}
    done = CliRunner().invoke(ronin, [str(word) for word in words], env=variables)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done
