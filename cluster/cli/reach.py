"""Reach: the database that the settings name, who asks, and what is said where there is none."""

import os
import pwd
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

import click
import psycopg
from click.shell_completion import CompletionItem

from cluster import boot, database, embedded
from cluster.database import Pool
from cluster.settings import Settings, SettingsError, load, load_or_exit
from cluster.store import tasks, views

_NAME = "ronin command"
"""application_name of our connections."""
_PATIENCE = 7.0
"""Seconds that we wait for a connection, and a statement for its answer; the server itself ends
one after five."""


class Answer(click.ClickException):
    """The answer is no; it is one line on standard error, and exit status 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line."""
        click.echo(f"ronin: {self.message}", err=True, file=file)


class Unreachable(Answer):
    """There is no answer, as the data can't be reached; exit status 2."""

    exit_code = 2


@contextmanager
def data(patience: float | None = _PATIENCE) -> Iterator[Pool]:
    """Give a pool on the database of the settings.

    Args:
        patience: seconds that a statement waits for its answer; None for ever.

    Raises:
        SystemExit: a setting makes no sense.
        Unreachable: there is no such database, or it does not answer.
    """
    with opened(url(load_or_exit()), patience) as pool:
        yield pool


@contextmanager
def opened(url: str, patience: float | None = _PATIENCE) -> Iterator[Pool]:
    """Give a pool on a database.

    Args:
        url: of it.
        patience: seconds that a statement waits for its answer; None for ever.

    Raises:
        Unreachable: it can't be reached, does not answer, or has no tables of ours.
    """
    try:
        # A pool would say that it has waited, and not why it got nothing.
        psycopg.connect(database.conninfo(url, _NAME)).close()
    except psycopg.Error as error:
        raise Unreachable(f"the database can't be reached: {one_line(error)}") from error
    try:
        with database.pool(url, _NAME, size=1, timeout=_PATIENCE, patience=patience) as pool:
            yield pool
    except psycopg.Error as error:
        raise no_answer(error) from error


def no_answer(error: psycopg.Error) -> Unreachable:
    """Return what to say of a statement that the database did not answer as it should."""
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedFunction):
        return Unreachable("the database has no tables of Ronin yet: `migrate` makes them")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return Unreachable(f"the database refuses: {one_line(error)}")
    return Unreachable(f"the database does not answer: {one_line(error)}")


def url(settings: Settings, *, anew: bool = False) -> str:
    """Return the URL of the database that the settings name; an embedded one runs from now on.

    Args:
        settings: of this environment.
        anew: whether an embedded one may be made, where there is none.

    Raises:
        Unreachable: the URL can't be read, or there is no embedded database.
    """
    if not (anew or settings.database_url or (settings.data / "pg").exists()):
        raise Unreachable(
            f"there is no database in {settings.data}: start the cluster, or set DATABASE_URL"
        )
    try:
        found = boot.database_url(settings)
        database.conninfo(found, _NAME)
    except database.DatabaseUrlError as error:
        raise Unreachable(f"DATABASE_URL: {error}") from error
    except embedded.EmbeddedPostgresError as error:
        raise Unreachable(one_line(error)) from error
    return found


def own_modules() -> None:
    """Let the modules of this folder be imported, as gunicorn does."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)


def who() -> str:
    """Return who uses the command line, as actions are recorded: `cli user@host`."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"cli {user}@{socket.gethostname()}"


def names(
    _context: click.Context, _parameter: click.Parameter, beginning: str
) -> list[CompletionItem]:
    """Return the names of jobs and kinds with that beginning, for a shell; none without data."""
    try:
        settings = load()
        if settings.database_url is None and not (settings.data / "pg/postmaster.pid").exists():
            return []
        with opened(url(settings)) as pool:
            rows = [*views.jobs(pool), *tasks.kinds(pool)]
    except (Answer, SettingsError, OSError):
        return []
    return [
        CompletionItem(row["name"], help=row["description"])
        for row in rows
        if row["name"].startswith(beginning)
    ]


def one_line(error: Exception) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def unknown(pool: Pool, name: str) -> Answer:
    """Return what to say of a name that neither a job nor a kind has, with those that are near."""
    return _unknown("job or kind of tasks", name, [*views.jobs(pool), *tasks.kinds(pool)])


def unknown_job(pool: Pool, name: str) -> Answer:
    """Return what to say of a name that no job has."""
    return _unknown("job", name, views.jobs(pool))


def unknown_kind(pool: Pool, name: str) -> Answer:
    """Return what to say of a name that no kind has."""
    return _unknown("kind of tasks", name, tasks.kinds(pool))


def _unknown(what: str, name: str, there: Sequence[views.Row]) -> Answer:
    near = get_close_matches(name, [row["name"] for row in there])
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return Answer(f"there is no {what} {name!r}{hint}")
