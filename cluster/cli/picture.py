"""Picture: what `status` shows, read at one moment."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from cluster.cli import answers
from cluster.database import Pool
from cluster.store import glance, search, tasks, views
from cluster.store.glance import Glance
from cluster.store.views import Row

FAILURES = 20
"""Failures that are told, of those in the last hour."""
_FAILED = ("failed", "crashed", "timed_out", "missed")
_OLDEST = search.Place(UUID(int=0))


def read(pool: Pool) -> Row:
    """Return the cluster at one moment, as `status --json` prints it.

    `workers`, `running`, `waiting` and `failures` are lists; what is in them is called as in the
    answers of the API.

    Raises:
        psycopg.Error: the database does not answer.
    """
    seen = glance.glance(pool)
    return {
        "at": seen.now,
        "workers": seen.workers,
        "running": _running(pool, seen),
        "waiting": _waiting(pool, seen),
        "failures": _failures(pool, seen),
    }


def _running(pool: Pool, seen: Glance) -> list[Row]:
    """Return what is under way, the newest first."""
    progress = {row["run_id"]: row["progress"] for row in seen.jobs}
    if any(row["name"] is not None for row in seen.running):
        under_way = search.page(pool, glance.RUNS, search.Wanted(tasks.PROCESSING))
        progress |= {row["task_id"]: row["progress"] for row in under_way}
    keys = ("run_id", "job", "name", "worker", "attempt", "started_at")
    return [
        {
            **{key: row[key] for key in keys},
            "elapsed_seconds": (seen.now - row["started_at"]).total_seconds(),
            "progress": progress.get(row["run_id"]),
        }
        for row in seen.running
    ]


def _waiting(pool: Pool, seen: Glance) -> list[Row]:
    """Return what waits and why: kinds by the first task of each, then jobs, the next first."""
    kinds = [row for row in seen.kinds if row["waiting"]]
    first = {
        row["name"]: found[0]["task_id"] if (found := _oldest(pool, row["name"])) else None
        for row in kinds
    }
    jobs = sorted(
        (row for row in seen.jobs if row["state"] != "running"),
        key=lambda row: (row["not_before"] is None, row["not_before"], row["name"]),
    )
    why = answers.reasons(pool, [*first.values(), *(row["run_id"] for row in jobs)])

    def told(row: Mapping[str, Any], run: UUID | None, count: int | None) -> Row:
        reason = why.get(run) if run else None
        return {
            "job": row["name"],
            "tasks": count,
            "run_id": run,
            "word": reason.word if reason else None,
            "why": reason.text if reason else None,
        }

    return [
        *(told(row, first[row["name"]], row["waiting"]) for row in kinds),
        *(told(row, row["run_id"], None) for row in jobs),
    ]


def _oldest(pool: Pool, kind: str) -> list[Row]:
    """Return the task of a kind that waits for longest, if any does."""
    return list(search.page(pool, 1, search.Wanted(tasks.NEW, kind), _OLDEST, newer=True))


def _failures(pool: Pool, seen: Glance) -> list[Row]:
    """Return the runs that failed last, each once; their errors are those of the last attempt."""
    keys = ("run_id", "job", "name", "worker", "attempt", "started_at", "finished_at", "outcome")
    return [
        {**{key: row[key] for key in keys}, "error": _error(pool, row["run_id"])}
        for row in _once(row for row in seen.ended if row["outcome"] in _FAILED)
    ]


def _once(rows: Iterable[Row]) -> list[Row]:
    found: dict[UUID, Row] = {}
    for row in rows:
        found.setdefault(row["run_id"], row)
        if len(found) == FAILURES:
            break
    return list(found.values())


def _error(pool: Pool, run: UUID) -> str | None:
    row = views.run(pool, run)
    return row["error"] if row else None
