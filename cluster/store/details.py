"""Details: one run with all that is kept of it, for a page; nothing here changes a row."""

from typing import LiteralString
from uuid import UUID

from psycopg.rows import dict_row

from cluster.database import Pool
from cluster.store.views import Row

_ATTEMPTS = 200
"""Finished attempts of a run that are told; one may be interrupted any number of times."""


def run(pool: Pool, run: UUID) -> Row | None:
    """Return a run wherever it is in its life, by its last attempt once it is over; or None.

    `name`, `args` and `result` are a task's. These two and `checkpoint` are JSON text with an
    indent, made by the database, for a number of its may have any length.
    """
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(_RUN, {"run": run}).fetchone()


_RUN: LiteralString = """
    SELECT *, uuid7_time(run_id) AS created_at, now() AS now,
        extract(epoch FROM coalesce(finished_at, now()) - started_at)::float8 AS elapsed_seconds
    FROM (
        SELECT id AS run_id, job, name, jsonb_pretty(args) AS args, priority, max_retries, attempt,
            failures, CASE WHEN token IS NULL THEN 'waiting' ELSE 'running' END AS state, worker,
            due_at, not_before, nullif(start_by, '-infinity') AS deadline, started_at,
            NULL::timestamptz AS finished_at, NULL AS outcome, error, progress,
            jsonb_pretty(checkpoint) AS checkpoint, NULL AS result,
            start_by IS NOT DISTINCT FROM '-infinity' AS cancelled
        FROM run WHERE id = %(run)s
        UNION ALL (
            SELECT run_id, job, name, jsonb_pretty(args), priority, max_retries, attempt, failures,
                'over', worker, due_at, NULL, NULL, started_at, finished_at, outcome, error, NULL,
                NULL, jsonb_pretty(result), outcome = 'cancelled'
            FROM history WHERE run_id = %(run)s AND outcome <> 'fenced'
                AND finished_at > uuid7_time(%(run)s) - interval '1 day'
            ORDER BY attempt DESC, finished_at DESC LIMIT 1)
    ) r ORDER BY finished_at NULLS FIRST LIMIT 1
    """


def attempts(pool: Pool, run: UUID) -> list[Row]:
    """Return the newest two hundred finished attempts of a run, oldest first, with tracebacks.

    A late word that was refused is one of them, as `fenced`.
    """
    query = """
        SELECT attempt, worker, due_at, started_at, finished_at, outcome, error, traceback,
            extract(epoch FROM finished_at - started_at)::float8 AS duration_seconds
        FROM history
        WHERE run_id = %(run)s AND finished_at > uuid7_time(%(run)s) - interval '1 day'
        ORDER BY attempt DESC, finished_at DESC LIMIT %(limit)s
        """
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(query, {"run": run, "limit": _ATTEMPTS}).fetchall()[::-1]


def recent(pool: Pool, job: str, limit: int) -> list[Row]:
    """Return the last finished attempts of a job, oldest first.

    Firings that were lost are no attempts; of these many may stand between two attempts, so no
    more than ten rows of history are looked at for each attempt.
    """
    query = """
        SELECT run_id, attempt, outcome, started_at, finished_at,
            extract(epoch FROM finished_at - started_at)::float8 AS duration_seconds
        FROM (SELECT * FROM history WHERE job = %(job)s
            ORDER BY finished_at DESC, run_id DESC LIMIT %(limit)s * 10) h
        WHERE started_at IS NOT NULL
        ORDER BY finished_at DESC, run_id DESC LIMIT %(limit)s
        """
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(query, {"job": job, "limit": limit}).fetchall()[::-1]


COUNTED = 10_000
"""Waiting tasks of a kind that are counted."""


def kinds(pool: Pool, name: str | None = None) -> list[Row]:
    """Return the kinds of tasks, or the one of that name, with what waits and is under way.

    `waiting` is `COUNTED + 1` where more wait than are counted: of one kind ten thousand, of all
    of them a tenth of that each.
    """
    query = """
        SELECT j.name, j.function, j.description, j.settings - 'args' AS settings, j.max_running,
            j.paused, j.settings -> 'args' AS args, w.waiting, u.running, now() AS now
        FROM job j,
            LATERAL (SELECT count(*) AS waiting FROM (SELECT FROM run r
                WHERE r.job = j.name AND r.token IS NULL LIMIT %(counted)s + 1) r) w,
            LATERAL (SELECT count(*) AS running FROM (
                SELECT * FROM run WHERE token IS NOT NULL OFFSET 0) r WHERE r.job = j.name) u
        WHERE j.schedule IS NULL AND (j.name = %(name)s OR %(name)s::text IS NULL)
        ORDER BY j.name
        """
    counted = COUNTED if name is not None else COUNTED // 10
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(query, {"name": name, "counted": counted}).fetchall()
