"""Retention: what is older than it is kept for goes, a batch at a time."""

from dataclasses import dataclass
from typing import LiteralString

import psycopg

from cluster.database import Pool

_DAYS = 10
"""Days of history that go at once at most (migrations/0014_retention.sql)."""
_BATCH = 1000
"""Rows of a table that go at once at most: 5 ms of PostgreSQL, and no lock is held long."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What went.

    Attributes:
        days: of history.
        rows: of the other tables.
        more: whether there may be more of it.
    """

    days: int
    rows: int
    more: bool


def drop(pool: Pool, days: int) -> Dropped:
    """Drop some of what is older than it is kept for.

    The history, what runs have said, and what people have done are kept for the retention;
    idempotency keys for a day; what clients have used of their minute, until it is over.
    Two at once: each row is one's, and who dies in between leaves the rest to the next.

    Args:
        pool: the engine's.
        days: the retention.
    """
    with pool.connection() as connection:
        gone = [connection.execute(each, {"days": days, "batch": _BATCH}).rowcount for each in _OLD]
        try:
            row = connection.execute(
                "SELECT drop_history(make_interval(days => %s))", (days,)
            ).fetchone()
        except psycopg.errors.LockNotAvailable:
            row = None  # somebody reads it; the next time will do
    history = int(row[0]) if row else 0
    return Dropped(history, sum(gone), more=history >= _DAYS or max(gone) >= _BATCH)


_OLD: tuple[LiteralString, ...] = (
    """
    DELETE FROM log_chunk WHERE (run_id, attempt, token, number) IN (
        SELECT run_id, attempt, token, number FROM log_chunk
        WHERE at < date_trunc('day', now() - make_interval(days => %(days)s), 'UTC')
        ORDER BY at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
    """,
    """
    DELETE FROM action WHERE id IN (
        SELECT id FROM action WHERE id < (SELECT uuid7(now() - make_interval(days => %(days)s)))
        ORDER BY id LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
    """,
    """
    DELETE FROM idempotency WHERE key IN (
        SELECT key FROM idempotency WHERE answered_at < now() - interval '1 day'
        ORDER BY answered_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
    """,
    """
    DELETE FROM task_key WHERE key IN (
        SELECT key FROM task_key WHERE created_at < now() - interval '1 day'
        ORDER BY created_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
    """,
    """
    DELETE FROM quota WHERE client IN (
        SELECT client FROM quota WHERE until < now() LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
    """,
)
