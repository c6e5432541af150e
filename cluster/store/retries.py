"""Retries: all failed tasks of a kind put back, in batches."""

import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from cluster.database import Pool
from cluster.store import actions


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of a wish to retry all.

    Attributes:
        count: tasks that were put back.
        more: whether time was over before there were none left.
    """

    count: int
    more: bool


def retry_all(
    pool: Pool, kind: str, by: str | None = None, *, seconds: float = 8, batch: int = 1000
) -> Retried:
    """Put back all tasks of a kind that have ended in an error by now, the oldest first.

    A transaction for each batch, so that no lock is held long; one action for all of them, which
    grows with each. Two at once: each skips what the other one holds, and finds what it has put
    back no more. Dies in the middle: what is done is done, and the action says how much.

    Args:
        pool: any.
        kind: its name.
        by: who wants it, for the record.
        seconds: after which it begins no further batch.
        batch: tasks in a transaction.

    Returns:
        How many were put back, and whether time was over before there were none left.
    """
    until = time.monotonic() + seconds
    with pool.connection() as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row  # noqa: S101 - a select without a table
    place = _Place(kind, batch, begun=row[0])
    while time.monotonic() < until:
        with pool.connection() as connection, connection.transaction():
            if not _put_back(connection, place, by):
                return Retried(place.retried, more=False)
    return Retried(place.retried, more=True)


@dataclass(slots=True)
class _Place:
    """How far it has come: the last task put back, and the action that says so."""

    kind: str
    batch: int
    begun: datetime  # what fails again after this is not put back again
    after: datetime | str = "-infinity"
    run: UUID | None = None
    retried: int = 0
    action: UUID | None = None


def _put_back(connection: Connection[Any], place: _Place, by: str | None) -> bool:
    connection.execute(_PLAN)
    row = connection.execute(_SOME, asdict(place)).fetchone()
    if row is None:
        return False
    count, place.after, place.run = row
    place.retried += count
    if place.action is None:
        target = f"kind:{place.kind}"
        place.action = actions.record(connection, by, "retry-all", target, retried=place.retried)
    else:
        actions.amend(connection, place.action, retried=place.retried)
    return True


# A thousand looks into an index, each into one day, rather than one walk over all days.
_PLAN = """
    SELECT set_config(name, 'off', true)
    FROM unnest(ARRAY['enable_hashjoin', 'enable_mergejoin', 'enable_seqscan']) AS name
    """

_SOME = """
    WITH failed AS MATERIALIZED (
        SELECT run_id, finished_at FROM history
        WHERE job = %(kind)s AND closing AND outcome <> 'completed'
            AND finished_at <= %(begun)s AND finished_at >= %(after)s
            AND (%(run)s::uuid IS NULL OR (finished_at, run_id) > (%(after)s, %(run)s))
        ORDER BY finished_at, run_id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    ), reopened AS (
        UPDATE history h SET closing = false FROM failed f
        WHERE h.job = %(kind)s AND h.finished_at = f.finished_at AND h.run_id = f.run_id
            AND h.closing AND h.outcome <> 'completed'
        RETURNING h.*
    ), put_back AS (
        INSERT INTO run (id, job, scheduled, name, args, priority, max_retries, due_at, not_before,
            attempt)
        SELECT run_id, job, false, name, args, priority, max_retries, now(), now(), attempt
        FROM reopened
    ), last AS (
        SELECT finished_at, run_id FROM failed ORDER BY finished_at DESC, run_id DESC LIMIT 1
    )
    SELECT (SELECT count(*) FROM reopened), finished_at, run_id FROM last
    """
