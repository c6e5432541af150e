"""Jobs: what the code declares, what is planned of it, and what an operator changes."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row

from cluster import schedule as schedules
from cluster.database import Pool
from cluster.job import Job
from cluster.store import actions
from cluster.store.runs import json


def declare(pool: Pool, jobs: Iterable[Job]) -> None:
    """Write what the code says of its jobs, and plan each one that has a schedule and no run.

    One transaction: no job is there without its first run. Two workers at once: the second
    waits at the first row, then finds everything done and plans nothing twice. What was planned
    of a job that has become a kind of tasks goes; if it is under way, it ends as its last run.
    """
    wanted = {job.name: job for job in jobs}
    with pool.connection() as connection, connection.transaction():
        cursor = connection.cursor(row_factory=dict_row)
        known = {
            row["name"]: row
            for row in cursor.execute("SELECT name, schedule, timezone FROM job ORDER BY name")
        }
        cursor.execute(
            """
            INSERT INTO job (name, function, description, declared_schedule, timezone, settings,
                max_running, start_within)
            SELECT name, function, description, declared_schedule, timezone, settings,
                max_running, make_interval(secs => start_within)
            FROM jsonb_to_recordset(%s) AS j (name text, function text, description text,
                declared_schedule text, timezone text, settings jsonb, max_running integer,
                start_within float8)
            ORDER BY name -- one order for all, so that two can't wait for each other
            ON CONFLICT (name) DO UPDATE SET function = excluded.function,
                scheduled_at = CASE WHEN (coalesce(job.new_schedule, excluded.declared_schedule),
                    excluded.timezone) IS DISTINCT FROM (job.schedule, job.timezone)
                    THEN now() ELSE job.scheduled_at END,
                description = excluded.description, timezone = excluded.timezone,
                declared_schedule = excluded.declared_schedule, settings = excluded.settings,
                max_running = excluded.max_running, start_within = excluded.start_within,
                new_schedule = CASE WHEN excluded.declared_schedule IS NOT NULL
                    THEN job.new_schedule END
            RETURNING name, schedule, timezone, now() AS now
            """,
            (json([_row(job) for job in wanted.values()]),),
        )
        plans = [
            _plan(wanted[row["name"]], row, known) for row in cursor.fetchall() if row["schedule"]
        ]
        cursor.executemany(
            """
            INSERT INTO run (job, priority, spread, due_at, not_before, start_by)
            VALUES (%(job)s, %(priority)s, make_interval(secs => %(spread)s), %(at)s, %(at)s,
                %(at)s + make_interval(secs => %(within)s))
            ON CONFLICT (job) WHERE scheduled DO NOTHING
            """,
            plans,
        )
        cursor.executemany(_MOVE, [plan for plan in plans if plan["moved"]])
        cursor.execute(
            """
            DELETE FROM run r USING job j WHERE j.name = ANY (%s) AND j.schedule IS NULL
                AND r.job = j.name AND r.scheduled AND r.token IS NULL
            """,
            (list(wanted),),
        )


_MOVE = """
    UPDATE run SET due_at = %(at)s, not_before = %(at)s,
        start_by = %(at)s + (SELECT start_within FROM job WHERE name = %(job)s)
    WHERE job = %(job)s AND scheduled AND token IS NULL AND attempt = 0
    """
"""Moves a planned run to another firing; one that is under way or retrying stays."""


def _plan(job: Job, row: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job's next run; `moved` if its schedule is not the one that was known."""
    before = known.get(job.name)
    firing = schedules.parse(row["schedule"], row["timezone"]).after(row["now"])
    return {
        "job": job.name,
        "priority": job.priority,
        "spread": job.spread,
        "within": job.start_within,
        "at": row["now"] if job.at_once and before is None else firing,
        "moved": before is not None
        and (before["schedule"], before["timezone"]) != (row["schedule"], row["timezone"]),
    }


def reschedule(pool: Pool, job: str, firing: datetime) -> None:
    """Move the planned run of a job to another firing, unless it is under way or retrying.

    The job has its schedule since now, not since it was changed: until then it went by the old.
    """
    with pool.connection() as connection, connection.transaction():
        connection.execute("UPDATE job SET scheduled_at = now() WHERE name = %s", (job,))
        connection.execute(_MOVE, {"job": job, "at": firing})


def change(pool: Pool, name: str, changes: Mapping[str, Any], by: str | None = None) -> bool:
    """Pause or resume a job, give it another schedule or back the code's; False if unknown.

    A run that is being finished at this moment holds the row of `job`: we wait, and our second
    statement sees the run it planned. Two changes at once: the second waits at the first
    statement, and is recorded only if there was something left to change.

    Args:
        pool: any.
        name: of the job, or of a kind of tasks.
        changes: `paused` a bool, `schedule` a valid schedule or None for the code's.
        by: who wants it, for the record.
    """
    with pool.connection() as connection, connection.transaction():
        cursor = connection.cursor(row_factory=dict_row)
        before = cursor.execute(
            """
            SELECT paused, new_schedule, schedule, declared_schedule FROM job WHERE name = %s
            FOR NO KEY UPDATE
            """,
            (name,),
        ).fetchone()
        if before is None:
            return False
        row = cursor.execute(
            """
            UPDATE job SET paused = coalesce(%(paused)s, paused),
                new_schedule = CASE WHEN %(set)s THEN %(schedule)s ELSE new_schedule END,
                scheduled_at = CASE WHEN %(set)s
                    AND coalesce(%(schedule)s, declared_schedule) IS DISTINCT FROM schedule
                    THEN clock_timestamp() ELSE scheduled_at END
            WHERE name = %(name)s
            RETURNING paused, new_schedule, schedule, timezone, clock_timestamp() AS now
            """,
            {
                "name": name,
                "paused": changes.get("paused"),
                "set": "schedule" in changes,
                "schedule": changes.get("schedule"),
            },
        ).fetchone()
        assert row  # noqa: S101 - we hold it
        if "schedule" in changes:
            firing = schedules.parse(row["schedule"], row["timezone"]).after(row["now"])
            connection.execute(_MOVE, {"job": name, "at": firing})
        _record_change(connection, by, name, before, row)
    return True


def _record_change(
    connection: Connection[Any],
    by: str | None,
    name: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    """Record what a change has changed, if anything."""
    target = f"{'job' if before['declared_schedule'] else 'kind'}:{name}"
    if after["paused"] != before["paused"]:
        actions.record(connection, by, "pause" if after["paused"] else "resume", target)
    if after["new_schedule"] != before["new_schedule"]:
        what = "reset" if after["new_schedule"] is None else "schedule"
        old, new = before["schedule"], after["schedule"]
        actions.record(connection, by, what, target, **{"from": old, "to": new})


def run_now(pool: Pool, name: str, by: str | None = None) -> UUID | None:
    """Make the planned run of a job due at once; None if it is under way.

    It takes the place of the next firing, so a job still never runs twice at once. A claim at
    the same moment: either it is first and we find nothing, or it finds the row due.

    Args:
        pool: any.
        name: of the job.
        by: who wants it, for the record.
    """
    query = """
        -- A firing that is late stays the one that it is.
        UPDATE run SET not_before = now(), start_by = NULL, due_at = least(due_at, now())
        WHERE job = %s AND scheduled AND token IS NULL RETURNING id
        """
    with pool.connection() as connection, connection.transaction():
        row = connection.execute(query, (name,)).fetchone()
        if row:
            actions.record(connection, by, "run", f"job:{name}", run_id=row[0])
    return row[0] if row else None


def prepare_history(pool: Pool) -> int:
    """Make the partitions of today and the days ahead. Returns how many were missing."""
    with pool.connection() as connection:
        row = connection.execute("SELECT prepare_history()").fetchone()
    return int(row[0]) if row else 0


def _row(job: Job) -> dict[str, Any]:
    return {
        "name": job.name,
        "function": job.path,
        "description": job.description,
        "declared_schedule": job.schedule,
        "timezone": job.timezone,
        "settings": {
            "timeout_seconds": job.timeout,
            "max_retries": job.max_retries,
            "retry_delay_seconds": job.retry_delay,
            "retry_longest_seconds": job.retry_longest,
            "retry_jitter": job.retry_jitter,
            "priority": job.priority,
            "spread_seconds": job.spread,
            "isolation": job.isolation,
            "memory_mib": job.memory_mib,
            **(
                {"at_once": job.at_once, "catch_up": job.catch_up}
                if job.schedule
                else {"remote": job.remote, "args": job.arguments.schema}
            ),
        },
        "max_running": job.max_running,
        "start_within": job.start_within,
    }
