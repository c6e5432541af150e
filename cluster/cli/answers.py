"""Answers: what the HTTP API answers, read here; for `--json`, and for the tables.

The tests hold each of them to what the API answers.
"""

from collections.abc import Iterable
from uuid import UUID

from cluster import shown
from cluster.database import Pool
from cluster.reason import Reason
from cluster.store import tasks, views, waits
from cluster.store.views import Row

_COUNTED = 1_000
"""Places in a queue that are counted, as the API does."""


def jobs(pool: Pool) -> list[Row]:
    """Return all jobs, as `GET /jobs` does."""
    rows = views.jobs(pool)
    why = reasons(pool, (row["run_id"] for row in rows if row["state"] != "running"))
    return [shown.job(row, why) for row in rows]


def job(pool: Pool, name: str) -> Row | None:
    """Return a job with its settings, as `GET /jobs/{name}` does; None if there is none."""
    rows = views.jobs(pool, name)
    if not rows:
        return None
    (row,) = rows
    why = reasons(pool, [row["run_id"]] if row["state"] != "running" else [])
    return shown.job_in_full(row, why)


def kind(pool: Pool, name: str) -> Row | None:
    """Return a kind of tasks, as `GET /kinds/{name}` does; None if there is none."""
    rows = tasks.kinds(pool, name)
    return rows[0] if rows else None


def run(pool: Pool, run: UUID) -> Row | None:
    """Return any run, as `GET /runs/{run_id}` does; None if there is none."""
    row = views.run(pool, run)
    return row and {**row, "why": _why(pool, run, waits_still=row["state"] == "waiting")}


def task(pool: Pool, task: UUID) -> Row | None:
    """Return a task, as `GET /tasks/{task_id}` does; None if there is none."""
    row = tasks.get(pool, task)
    if row is None:
        return None
    why = _why(pool, task, waits_still=row["status"] == tasks.NEW)
    return {**shown.task(row), "why": why}


def reasons(pool: Pool, runs: Iterable[UUID | None]) -> dict[UUID, Reason]:
    """Return why runs wait, without those that don't."""
    return waits.reasons(pool, [run for run in runs if run], counted=_COUNTED)


def _why(pool: Pool, run: UUID, *, waits_still: bool) -> str | None:
    reason = reasons(pool, [run]).get(run) if waits_still else None
    return reason.text if reason else None
