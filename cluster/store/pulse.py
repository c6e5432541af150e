"""Pulse: how much the cluster starts and ends, how late, and how much waits, by the minute."""

from collections.abc import Iterator, Sequence
from typing import LiteralString
from uuid import UUID

from psycopg.rows import dict_row, scalar_row

from cluster.database import Pool
from cluster.pulse import Count
from cluster.store.runs import json
from cluster.store.views import Row

MOST_WAITING = 10_000
"""Waiting runs are counted up to here."""


def write(pool: Pool, worker: UUID, counts: Sequence[Count]) -> int:
    """Write a worker's minutes, and with the last one how many runs wait; return how many.

    Only this worker writes its rows. The counts are whole and only grow, and the greater one
    wins: so a write whose answer was lost may come again, and one that was overtaken takes
    nothing back.

    What the minutes say of each job is added to the totals once a minute is over, which is when
    the worker sends it no more. It leaves `pulse_job` in the statement that adds it: of two at
    once, the second finds it gone, and who reads sees it here or there, never twice.

    Args:
        pool: the engine's.
        worker: who counted.
        counts: all minutes that may still be sent, oldest first, the present one last.
    """
    parameters = {
        "worker": worker,
        "counts": json([_whole(count) for count in counts]),
        "parts": json([row for count in counts for row in _parts(count)]),
        "oldest": counts[0].minute,
        "present": counts[-1].minute,
        "most": MOST_WAITING,
    }
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=scalar_row).execute(_WRITE, parameters)
        waiting: int = cursor.fetchall()[0]  # a row for each minute
    return waiting


def _whole(count: Count) -> Row:
    return {field: getattr(count, field) for field in _WHOLE}


def _parts(count: Count) -> Iterator[Row]:
    for (job, what), part in count.parts.items():
        yield {
            "minute": count.minute,
            "job": job,
            "what": what,
            "attempts": part.attempts,
            "seconds": part.seconds,
            "last_at": part.last_at,
        }


_WHOLE = ("minute", "started", "ended", "failed", "delay_sum", "longest_delay")

_ADDED: LiteralString = """
    INSERT INTO total AS t (job, what, attempts, seconds, last_at)
    SELECT job, what, sum(attempts), sum(seconds), max(last_at) FROM over GROUP BY job, what
    ORDER BY job, what -- one order for all, so that two can't wait for each other
    ON CONFLICT (job, what) DO UPDATE SET attempts = t.attempts + excluded.attempts,
        seconds = t.seconds + excluded.seconds, last_at = greatest(t.last_at, excluded.last_at)
    """

_WRITE: LiteralString = f"""
    WITH RECURSIVE level AS (
        -- As a claim does: the priorities of each job, one index probe each; so what waits for
        -- a later time costs nothing.
        SELECT j.name, (SELECT max(r.priority) FROM run r
            WHERE r.job = j.name AND r.token IS NULL) AS priority
        FROM job j WHERE NOT j.paused
        UNION ALL
        SELECT l.name, (SELECT max(r.priority) FROM run r
            WHERE r.job = l.name AND r.token IS NULL AND r.priority < l.priority)
        FROM level l WHERE l.priority IS NOT NULL
    ), waiting AS MATERIALIZED (
        SELECT count(*)::integer AS waiting FROM (
            SELECT FROM level l CROSS JOIN LATERAL (
                SELECT FROM run r WHERE r.job = l.name AND r.priority = l.priority
                    AND r.token IS NULL AND r.not_before <= now() LIMIT %(most)s) r
            LIMIT %(most)s) r
    ), told AS (
        INSERT INTO pulse_job AS p (worker, minute, job, what, attempts, seconds, last_at)
        SELECT %(worker)s, c.* FROM jsonb_to_recordset(%(parts)s) AS c (minute timestamptz,
            job text, what text, attempts integer, seconds float8, last_at timestamptz)
        WHERE NOT EXISTS (SELECT FROM pulse_job k WHERE k.worker = %(worker)s
            AND k.minute = c.minute AND k.job = c.job AND k.what = c.what
            AND k.attempts >= c.attempts) -- most of what is sent is known
        ON CONFLICT (worker, minute, job, what) DO UPDATE SET
            attempts = greatest(p.attempts, excluded.attempts),
            seconds = greatest(p.seconds, excluded.seconds),
            last_at = greatest(p.last_at, excluded.last_at)
    ), over AS (
        DELETE FROM pulse_job WHERE worker = %(worker)s AND minute < %(oldest)s
        RETURNING job, what, attempts, seconds, last_at
    ), added AS ({_ADDED})
    INSERT INTO pulse AS p (minute, worker, started, ended, failed, delay_sum, longest_delay,
        waiting)
    SELECT c.minute, %(worker)s, c.started, c.ended, c.failed, c.delay_sum, c.longest_delay,
        CASE WHEN c.minute = %(present)s THEN w.waiting ELSE 0 END
    FROM jsonb_to_recordset(%(counts)s) AS c (minute timestamptz, started integer, ended integer,
        failed integer, delay_sum float8, longest_delay float8) CROSS JOIN waiting w
    ON CONFLICT (minute, worker) DO UPDATE SET started = greatest(p.started, excluded.started),
        ended = greatest(p.ended, excluded.ended), failed = greatest(p.failed, excluded.failed),
        delay_sum = greatest(p.delay_sum, excluded.delay_sum),
        longest_delay = greatest(p.longest_delay, excluded.longest_delay),
        waiting = greatest(p.waiting, excluded.waiting)
    RETURNING (SELECT waiting FROM waiting)
    """


def forget(pool: Pool) -> None:
    """Remove what is older than a day. Two at once: the second finds nothing left.

    The last minutes of workers that are no more are added to the totals.
    """
    with pool.connection() as connection:
        connection.execute("DELETE FROM pulse WHERE minute < now() - interval '1 day'")
        connection.execute(_FOLD)


_FOLD: LiteralString = f"""
    WITH over AS (
        DELETE FROM pulse_job WHERE minute < now() - interval '1 day'
        RETURNING job, what, attempts, seconds, last_at
    )
    {_ADDED}
    """


def minutes(pool: Pool) -> list[Row]:
    """Return the last 60 minutes, oldest first, the present one last and not yet whole.

    Each as `at`, `started`, `ended`, `failed`, `mean_delay_seconds` and `longest_delay_seconds`
    (None where nothing was started), and `waiting`: the most runs that a worker saw due and not
    started, 10,000 at most, without those of paused jobs. A minute in which nobody had anything
    to do has zeros. A worker tells with a delay of ten seconds. What remote workers do is not
    counted, save that they went silent.
    """
    query = """
        SELECT m.at, coalesce(p.started, 0) AS started, coalesce(p.ended, 0) AS ended,
            coalesce(p.failed, 0) AS failed, p.mean_delay_seconds, p.longest_delay_seconds,
            coalesce(p.waiting, 0) AS waiting
        FROM (SELECT date_trunc('minute', now()) - make_interval(mins => n) AS at
            FROM generate_series(0, 59) n) m
        LEFT JOIN (
            SELECT minute, sum(started) AS started, sum(ended) AS ended, sum(failed) AS failed,
                sum(delay_sum) / nullif(sum(started), 0) AS mean_delay_seconds,
                CASE WHEN sum(started) > 0 THEN max(longest_delay) END AS longest_delay_seconds,
                max(waiting) AS waiting
            FROM pulse WHERE minute > now() - interval '1 hour' GROUP BY minute) p
            ON p.minute = m.at
        ORDER BY m.at
        """
    with pool.connection() as connection:
        return connection.cursor(row_factory=dict_row).execute(query).fetchall()
