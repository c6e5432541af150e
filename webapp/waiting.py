"""Waiting: why runs wait, in words, as the answers show it."""

from collections.abc import Iterable
from uuid import UUID

from cluster.database import Pool
from cluster.reason import Reason
from cluster.store import views, waits

_COUNTED = 1_000
"""Places that are counted for who may ask often: programs that wait for a run, and live pages."""


def of_jobs(pool: Pool, rows: Iterable[views.Row]) -> dict[UUID, Reason]:
    """Return why the runs of jobs wait, by the run's id."""
    runs = [row["run_id"] for row in rows if row["run_id"] and row["state"] != "running"]
    return waits.reasons(pool, runs, counted=_COUNTED)


def of_run(pool: Pool, run: UUID, *, waits_still: bool) -> str | None:
    """Return why a run waits; None if it does not, or not any more.

    Args:
        pool: any.
        run: its id.
        waits_still: whether it was seen to wait; else nobody is asked.
    """
    reason = waits.reasons(pool, [run], counted=_COUNTED).get(run) if waits_still else None
    return reason.text if reason else None


def gist(pool: Pool, row: views.Row) -> str:
    """Return why a run or the run of a job waits, without what only the time moves; for a page.

    Args:
        pool: any.
        row: its `run_id`, and `state` as it was seen; nobody is asked about one under way or over.
    """
    if row["run_id"] is None or row["state"] in ("running", "over"):
        return ""
    reason = waits.reasons(pool, [row["run_id"]]).get(row["run_id"])
    return reason.gist if reason else "it has just been started, or ended"
