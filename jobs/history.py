"""History: rolled up by the hour, and dropped when its time is over."""

from typing import LiteralString

import psycopg

from cluster import Run, job, settings
from jobs.sample import SAMPLE, found, query, steps


@job(name="rollup-runs", schedule="*/15 * * * *", **SAMPLE)
def roll_up(run: Run) -> None:
    """Roll up runs by job, hour and outcome, one hour of the last day at a step."""
    rows = 0
    for step, _ in enumerate(steps(run)):
        # An hour is written anew as a whole, so doing it twice does no harm.
        rows += len(
            query(
                run,
                """
                INSERT INTO run_hourly
                    (job, hour, outcome, runs, total_seconds, longest_seconds)
                SELECT job, date_trunc('hour', finished_at), outcome, count(*),
                    coalesce(sum(extract(epoch FROM finished_at - started_at)), 0),
                    coalesce(max(extract(epoch FROM finished_at - started_at)), 0)
                FROM history
                WHERE finished_at >= date_trunc('hour', now()) - %(back)s * interval '1 hour'
                    AND finished_at < date_trunc('hour', now()) - (%(back)s - 1) * interval '1 hour'
                GROUP BY 1, 2, 3
                ON CONFLICT (job, hour, outcome) DO UPDATE SET runs = excluded.runs,
                    total_seconds = excluded.total_seconds,
                    longest_seconds = excluded.longest_seconds
                RETURNING job
                """,
                {"back": step % 24},
            )
        )
    found(run, rows=rows)


@job(name="drop-history", schedule="30 2 * * *", timezone="Europe/Berlin", **SAMPLE)
def drop(run: Run) -> None:
    """Drop the days of history past retention; statistics, actions and idempotency keys as well."""
    days = settings.load().retention_days
    dropped = keys = chunks = 0
    for _ in steps(run):
        try:
            rows = query(run, "SELECT drop_history(make_interval(days => %(d)s))", {"d": days})
            dropped += rows[0][0]
        except psycopg.errors.LockNotAvailable:
            run.log.info("history is being read; dropping later")
        query(
            run,
            "DELETE FROM run_hourly WHERE hour < now() - make_interval(days => %(d)s) RETURNING 1",
            {"d": days},
        )
        query(run, OLD_ACTIONS, {"d": days})
        query(run, "DELETE FROM quota WHERE until < now() RETURNING 1")
        keys += drop_keys(run)
        chunks += drop_lines(run, days)
    found(run, days_dropped=dropped, keys_dropped=keys, log_chunks_dropped=chunks)


def drop_keys(run: Run) -> int:
    """Drop the idempotency keys whose day is over; return how many.

    In small batches, so that no lock is held long: a thousand take 5 ms of PostgreSQL's time.
    """
    dropped = 0
    for statement in _OLD_KEYS:
        while some := len(query(run, statement)):
            dropped += some
            run.check()
    return dropped


def drop_lines(run: Run, days: int) -> int:
    """Drop what runs have said on the days of history that are dropped; return how many chunks."""
    dropped = 0
    while some := len(query(run, _OLD_LINES, {"d": days})):
        dropped += some
        run.check()
    return dropped


_OLD_LINES: LiteralString = """
    DELETE FROM log_chunk WHERE (run_id, attempt, token, number) IN (
        SELECT run_id, attempt, token, number FROM log_chunk
        WHERE at < date_trunc('day', now() - make_interval(days => %(d)s), 'UTC')
        ORDER BY at LIMIT 1000 FOR UPDATE SKIP LOCKED)
    RETURNING 1
    """


OLD_ACTIONS: LiteralString = """
    DELETE FROM action WHERE id < (SELECT uuid7(now() - make_interval(days => %(d)s))) RETURNING 1
    """
"""Drops what people have done longer ago than the retention."""

_OLD_KEYS: tuple[LiteralString, ...] = (
    """
    DELETE FROM idempotency WHERE key IN (
        SELECT key FROM idempotency WHERE answered_at < now() - interval '1 day'
        ORDER BY answered_at LIMIT 1000 FOR UPDATE SKIP LOCKED)
    RETURNING 1
    """,
    """
    DELETE FROM task_key WHERE key IN (
        SELECT key FROM task_key WHERE created_at < now() - interval '1 day'
        ORDER BY created_at LIMIT 1000 FOR UPDATE SKIP LOCKED)
    RETURNING 1
    """,
)
