"""Shown: rows of the store as every answer has them, by HTTP and at a terminal; pure."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson

from cluster import schedule as schedules
from cluster.reason import Reason
from cluster.store import tasks
from cluster.store.views import Row

_NOW = ("run_id", "attempt", "started_at", "elapsed_seconds", "progress")
_LAST = ("outcome", "started_at", "finished_at", "duration_seconds", "worker")
_JSON_TEXT = ("processing_time", "args", "result")


def job(row: Row, why: Mapping[UUID, Reason]) -> Row:
    """Return a job as the list of them has it.

    Args:
        row: as `views.jobs` returns it.
        why: why runs wait, by their ids; without those that don't.
    """
    plain = ("name", "function", "description", "schedule", "timezone", "state", "worker")
    reason = why.get(row["run_id"])
    return {
        **{key: row[key] for key in (*plain, *_NOW)},
        "next_run_at": (
            schedules.parse(row["schedule"], row["timezone"]).after(row["now"])
            if row["state"] == "running"
            else row["not_before"]
        ),
        "waiting_for": row["waiting_for"],
        "why": reason.text if reason else None,
        "last_run": {key: row[f"last_{key}"] for key in _LAST} if row["last_outcome"] else None,
    }


def job_in_full(row: Row, why: Mapping[UUID, Reason]) -> Row:
    """Return a job with its settings; the arguments are those of `job`."""
    more = ("declared_schedule", "paused", "settings")
    return {**job(row, why), **{key: row[key] for key in more}}


def task(row: Mapping[str, Any]) -> Row:
    """Return a task; in a list the row, and so the answer, has no arguments and no result."""
    texts = {key: _json(row[key]) for key in _JSON_TEXT if key in row}
    return {**row, "status_name": tasks.STATUS_NAMES[row["status"]], **texts}


def _json(text: str | None) -> orjson.Fragment | None:
    # The database's own text: a number of its may have any length.
    return None if text is None else orjson.Fragment(text)
