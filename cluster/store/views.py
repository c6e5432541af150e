"""Views: what pages and routes read; nothing here changes a row."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import dict_row

from cluster.database import Pool

Row = dict[str, Any]


def jobs(pool: Pool, name: str | None = None) -> list[Row]:
    """Return every job, or the one of that name, with its run and its last finished attempt.

    One index walk over a hundred rows at most for the last attempt, however long the history is.
    """
    return _rows(pool, _JOBS, {"name": name})


STANDING: LiteralString = """
        CASE WHEN r.started_at IS NOT NULL THEN 'running'
            WHEN j.paused THEN 'paused' ELSE 'waiting' END AS state,
        CASE WHEN r.started_at IS NOT NULL THEN NULL
            WHEN j.paused THEN 'paused'
            WHEN NOT EXISTS (SELECT FROM worker w
                WHERE w.lease_until > now() AND j.name = ANY (w.jobs)) THEN 'no_worker'
            WHEN r.not_before > now() AND r.attempt > 0 THEN 'retry'
            WHEN r.not_before > now() THEN 'schedule'
            ELSE 'free_worker' END AS waiting_for
    """
"""Columns: how the job `j` with the run `r` stands, and the word for why it waits."""

_JOBS: LiteralString = f"""
    SELECT j.name, j.function, j.description, j.schedule, j.declared_schedule, j.timezone,
        j.paused, j.settings, now() AS now,
        r.id AS run_id, r.attempt, r.worker, r.started_at, r.progress, r.due_at, r.not_before,
        extract(epoch FROM now() - r.started_at)::float8 AS elapsed_seconds,
        {STANDING},
        h.outcome AS last_outcome, h.started_at AS last_started_at,
        h.finished_at AS last_finished_at, h.worker AS last_worker,
        extract(epoch FROM h.finished_at - h.started_at)::float8 AS last_duration_seconds
    FROM job j
        LEFT JOIN run r ON r.job = j.name AND r.scheduled
        LEFT JOIN LATERAL (
            -- An attempt rather than a firing that was lost; of these many may come at once.
            SELECT * FROM (SELECT * FROM history h WHERE h.job = j.name
                ORDER BY h.finished_at DESC, h.run_id DESC LIMIT 100) h
            ORDER BY h.token IS NULL, h.finished_at DESC, h.run_id DESC LIMIT 1) h ON true
    WHERE j.schedule IS NOT NULL AND (j.name = %(name)s OR %(name)s::text IS NULL)
    ORDER BY j.name
    """


def history(
    pool: Pool,
    job: str,
    limit: int,
    beyond: tuple[datetime, UUID] | None,
    *,
    newer: bool = False,
) -> list[Row]:
    """Return a job's finished attempts, newest first.

    Args:
        pool: any.
        job: its name.
        limit: rows at most.
        beyond: `finished_at` and `run_id` of the row to go on after.
        newer: whether to go on to what is newer than that row, and not to what is older.
    """
    finished, run = beyond or ("infinity", UUID(int=2**128 - 1))
    rows = _rows(
        pool,
        _NEWER if newer else _OLDER,
        {"job": job, "finished": finished, "run": run, "limit": limit},
    )
    return rows[::-1] if newer else rows


_ENDED: LiteralString = """
    SELECT run_id, attempt, worker, due_at, due_until, started_at, finished_at, outcome, error,
        extract(epoch FROM started_at - due_at)::float8 AS late_seconds,
        extract(epoch FROM finished_at - started_at)::float8 AS duration_seconds
    FROM history
    """
_OLDER: LiteralString = f"""
    {_ENDED} WHERE job = %(job)s AND finished_at <= %(finished)s::timestamptz
        AND (finished_at, run_id) < (%(finished)s::timestamptz, %(run)s)
    ORDER BY finished_at DESC, run_id DESC LIMIT %(limit)s
    """
_NEWER: LiteralString = f"""
    {_ENDED} WHERE job = %(job)s AND finished_at >= %(finished)s::timestamptz
        AND (finished_at, run_id) > (%(finished)s::timestamptz, %(run)s)
    ORDER BY finished_at, run_id LIMIT %(limit)s
    """


def run(pool: Pool, run: UUID) -> Row | None:
    """Return a run wherever it is in its life, by its last attempt once it is over; or None."""
    query = """
        SELECT id AS run_id, job,
            CASE WHEN token IS NULL THEN 'waiting' ELSE 'running' END AS state, attempt, worker,
            due_at, not_before, started_at, NULL::timestamptz AS finished_at,
            NULL AS outcome, error, progress,
            start_by IS NOT DISTINCT FROM '-infinity' AS cancelled
        FROM run WHERE id = %(run)s
        UNION ALL (
            SELECT run_id, job, 'over', attempt, worker, due_at, NULL, started_at, finished_at,
                outcome, error, NULL, outcome = 'cancelled'
            FROM history WHERE run_id = %(run)s AND outcome <> 'fenced'
                AND finished_at > uuid7_time(%(run)s) - interval '1 day'
            ORDER BY attempt DESC, finished_at DESC LIMIT 1)
        ORDER BY finished_at NULLS FIRST LIMIT 1
        """
    rows = _rows(pool, query, {"run": run})
    return rows[0] if rows else None


def workers(pool: Pool) -> Sequence[Row]:
    """Return who holds a lease, with the number of runs each has under way."""
    query = """
        SELECT w.id, w.name, split_part(w.name, ':', 1) AS host, w.pid, w.started_at,
            count(r.id) AS load, w.lease_until, w.leaving
        FROM worker w LEFT JOIN run r ON r.worker_id = w.id AND r.token IS NOT NULL
        GROUP BY w.id ORDER BY w.name, w.id
        """
    return _rows(pool, query, {})


def reachable(pool: Pool) -> None:
    """Ask the database for anything at all.

    Raises:
        psycopg.OperationalError: it does not answer.
    """
    _rows(pool, "SELECT FROM opening", {})


def _rows(pool: Pool, query: LiteralString, parameters: Row) -> list[Row]:
    with pool.connection() as connection:
        return connection.cursor(row_factory=dict_row).execute(query, parameters).fetchall()
