"""What the database says of a cluster, whatever its processes say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cluster.store.checks import contradictions
from tests.eventually import eventually

Row = tuple[Any, ...]


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """Make an empty database; give its URL."""
    name = sql.Identifier(text := f"ronin_{uuid4().hex}")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template1").format(name))
    try:
        yield make_conninfo(server_url, dbname=text)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def rows(url: str, query: LiteralString, **parameters: Any) -> list[Row]:
    """Run one statement on a connection of its own and return its rows, if it has any."""
    with psycopg.connect(url, autocommit=True, connect_timeout=3) as connection:
        cursor = connection.execute(query, parameters)
        return cursor.fetchall() if cursor.description else []


def now(url: str) -> Any:
    """Return the database's clock."""
    return rows(url, "SELECT clock_timestamp()")[0][0]


def held(url: str) -> dict[str, list[str]]:
    """Return the jobs under way by worker."""
    found: dict[str, list[str]] = {}
    for worker, job in rows(url, "SELECT worker, job FROM run WHERE token IS NOT NULL ORDER BY 2"):
        found.setdefault(worker, []).append(job)
    return found


def shares(url: str, jobs: int = 10) -> list[int]:
    """Wait until all jobs are under way; return how many each lease holder has, sorted.

    Tasks are not counted.
    """
    query: LiteralString = """
        SELECT count(r.id) FROM worker w LEFT JOIN run r ON r.worker_id = w.id AND r.scheduled
        GROUP BY w.id ORDER BY 1
        """

    def all_under_way() -> list[int]:
        counts = [row[0] for row in rows(url, query)]
        assert sum(counts) == jobs
        return counts

    return eventually(all_under_way, within=40)


def outcomes(url: str) -> dict[str, int]:
    """Return how many attempts ended in which way."""
    return dict(rows(url, _OUTCOMES))


_OUTCOMES: LiteralString = """
    SELECT outcome, count(*) FROM history WHERE token IS NOT NULL GROUP BY 1
    """
"""Without firings that came while a run was under way: whether one does depends on the hour."""


def completed(url: str) -> int:
    """Return how many different jobs have completed."""
    query: LiteralString = "SELECT count(DISTINCT job) FROM history WHERE outcome = 'completed'"
    number: int = rows(url, query)[0][0]
    return number


def unsound(url: str) -> dict[str, list[Row]]:
    """Return what contradicts the guarantees, by guarantee; empty if all of them hold."""
    with psycopg.connect(url, autocommit=True) as connection:
        return {name: found for name, found in contradictions(connection) if found}
