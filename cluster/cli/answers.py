"""Answers: rows as the HTTP API shows them, field by field; for `--json`, and for the tables.

The tests hold each of them to what the API answers.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import orjson

from cluster import schedule as schedules
from cluster.database import Pool
from cluster.reason import Reason
from cluster.store import tasks, views, waits
from cluster.store.views import Row

_COUNTED = 1_000
"""Places in a queue that are counted, as the API does."""
_LAST = ("outcome", "started_at", "finished_at", "duration_seconds", "worker")
_JSON_TEXT = ("processing_time", "args", "result")


def jobs(pool: Pool) -> list[Row]:
    """Return all jobs, as `GET /jobs` does."""
    rows = views.jobs(pool)
    why = reasons(pool, (row["run_id"] for row in rows if row["state"] != "running"))
    return [_job(row, why) for row in rows]


def job(pool: Pool, name: str) -> Row | None:
    """Return a job with its settings, as `GET /jobs/{name}` does; None if there is none."""
    rows = views.jobs(pool, name)
    if not rows:
        return None
    (row,) = rows
    why = reasons(pool, [row["run_id"]] if row["state"] != "running" else [])
    more = ("declared_schedule", "paused", "settings")
    return {**_job(row, why), **{key: row[key] for key in more}}


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
    return {**listed(row), "why": _why(pool, task, waits_still=row["status"] == tasks.NEW)}


def listed(row: Mapping[str, Any]) -> Row:
    """Return a task as `GET /tasks` does."""
    texts = {key: _json(row[key]) for key in _JSON_TEXT if key in row}
    return {**row, "status_name": tasks.STATUS_NAMES[row["status"]], **texts}


def reasons(pool: Pool, runs: Iterable[UUID | None]) -> dict[UUID, Reason]:
    """Return why runs wait, without those that don't."""
    return waits.reasons(pool, [run for run in runs if run], counted=_COUNTED)


def _why(pool: Pool, run: UUID, *, waits_still: bool) -> str | None:
    reason = reasons(pool, [run]).get(run) if waits_still else None
    return reason.text if reason else None


def _job(row: Row, why: Mapping[UUID, Reason]) -> Row:
    reason = why.get(row["run_id"])
    plain = ("name", "function", "description", "schedule", "timezone", "state", "worker")
    now = ("run_id", "attempt", "started_at", "elapsed_seconds", "progress")
    return {
        **{key: row[key] for key in (*plain, *now)},
        "next_run_at": (
            schedules.parse(row["schedule"], row["timezone"]).after(row["now"])
            if row["state"] == "running"
            else row["not_before"]
        ),
        "waiting_for": row["waiting_for"],
        "why": reason.text if reason else None,
        "last_run": {key: row[f"last_{key}"] for key in _LAST} if row["last_outcome"] else None,
    }


def _json(text: str | None) -> orjson.Fragment | None:
    # The database's own text: a number of its may have any length.
    return None if text is None else orjson.Fragment(text)
