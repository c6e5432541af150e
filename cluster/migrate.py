"""Migrations: brings the schema up to date at the start, however many instances start at once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import yoyo
from psycopg.conninfo import conninfo_to_dict
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

from cluster import database, log

FOLDER = Path(__file__).parent.parent / "migrations"
_LOCK = 0x526F6E696E  # "Ronin" in ASCII; any number that is ours alone
_SAY_AGAIN_SECONDS = 5.0
_log = log.get("migrate")


def migrate(url: str, folder: Path = FOLDER) -> int:
    """Wait for the database, then apply what is not applied yet; return how many that were.

    One instance does it while the others wait. An instance that is killed in the middle leaves
    yoyo's own lock row behind and perhaps a migration done but not marked: the next one breaks
    that lock, which is safe under ours, and runs the migration again, which every migration
    must bear.

    Raises:
        psycopg.Error: a migration is wrong, or the role may not create tables.
    """
    while True:
        wait_for(url)
        try:
            applied = _apply(url, folder)
        except psycopg.errors.LockNotAvailable as error:
            # A long query, or what a killed start left running in the server. Giving up after
            # two seconds and coming back lets those pass that would queue up behind us.
            _log.warning("a migration waits for others", reason=str(error).split("\n")[0])
            time.sleep(0.5)
        except psycopg.OperationalError as error:
            if not _lost(error):
                raise
            _log.warning("lost the database in a migration", reason=str(error).split("\n")[0])
            time.sleep(0.5)
        else:
            break
    if applied:
        _log.info("migrated", applied=applied)
    return len(applied)


def _lost(error: psycopg.Error) -> bool:
    """Whether the connection was lost, and nothing is wrong with what was sent by it."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _no_right(url: str) -> str:
    """Return why nothing can be created, where the role lacks the right to; else nothing."""
    query = """
        SELECT format('the role %I may not create tables in schema public of the database %I:'
            ' let it own the database, or grant it CREATE on that schema',
            current_user, current_database())
        WHERE NOT has_schema_privilege(to_regnamespace('public'), 'CREATE')
        """
    try:
        with psycopg.connect(database.conninfo(url, "ronin migrate")) as connection:
            row = connection.execute(query).fetchone()
    except psycopg.Error:
        return ""  # the error that we have is told
    return row[0] if row else ""


def _apply(url: str, folder: Path) -> list[str]:
    try:
        with _only_one(url), _backend(url) as backend:
            backend.break_lock()
            migrations = backend.to_apply(yoyo.read_migrations(str(folder)))
            with backend.lock():
                backend.apply_migrations(migrations)
    except psycopg.ProgrammingError as error:
        # yoyo says nothing of a table that it could not make, and then misses it.
        if reason := _no_right(url):
            raise psycopg.errors.InsufficientPrivilege(reason) from error
        raise
    return [migration.id for migration in migrations]


def roll_back(url: str, folder: Path = FOLDER) -> None:
    """Undo every migration, newest first. All data is lost."""
    with _only_one(url), _backend(url) as backend:
        backend.break_lock()
        migrations = backend.to_rollback(yoyo.read_migrations(str(folder)))
        with backend.lock():
            backend.rollback_migrations(migrations)


def wait_for(url: str, pause: float = 0.25) -> None:
    """Return once the database takes connections; say every few seconds why it does not yet.

    Args:
        url: libpq URL.
        pause: seconds between two tries at first; they grow to two seconds.

    Raises:
        database.DatabaseUrlError: the URL can't be read.
    """
    said = float("-inf")
    while True:
        try:
            psycopg.connect(database.conninfo(url, "ronin start")).close()
        except psycopg.OperationalError as error:
            if time.monotonic() - said > _SAY_AGAIN_SECONDS:
                _log.warning("waiting for the database", reason=str(error).strip().split("\n")[0])
                said = time.monotonic()
            time.sleep(pause)
            pause = min(pause * 1.5, 2.0)
        else:
            return


@contextmanager
def _only_one(url: str) -> Iterator[None]:
    """Hold the migration lock; it goes with the connection, so a killed holder can't keep it.

    Polled, not waited for: a statement that waits holds a snapshot, and CREATE INDEX
    CONCURRENTLY in somebody's migration would wait for that in turn, for ever.
    """
    unlimited = {"idle_in_transaction_session_timeout": "0"}
    with psycopg.connect(database.conninfo(url, "ronin migrate", **unlimited)) as connection:
        connection.prepare_threshold = None  # a pooler may give us another session for each try
        while True:
            query = "SELECT pg_try_advisory_xact_lock(%s)"
            row = connection.execute(query, (_LOCK,)).fetchone()
            if row and row[0]:
                break
            connection.rollback()
            time.sleep(0.1)
        yield
        with suppress(psycopg.OperationalError):
            connection.rollback()


@contextmanager
def _backend(url: str) -> Iterator[PostgresqlPsycopgBackend]:
    """Give yoyo a psycopg 3 connection with our settings (its own URLs lack several hosts)."""
    parameters = conninfo_to_dict(database.conninfo(url, "ronin migrate", statement_timeout="0"))
    name = parameters.pop("dbname", None)
    uri = DatabaseURI("postgresql+psycopg", None, None, None, None, name, parameters)
    with PostgresqlPsycopgBackend(uri, "_yoyo_migration") as backend:
        backend.connection.prepare_threshold = None
        backend.init_database()
        yield backend
