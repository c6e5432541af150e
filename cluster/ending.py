"""Endings: what becomes of a run whose attempt has come back (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from cluster import schedule as schedules
from cluster.job import Job
from cluster.perform import Result
from cluster.run import MAX_CRASHES, Claim

_CATCH_UP_MOST = 100
"""Firings that a job with `catch_up="all"` makes up for."""
_LISTED = 50
"""Lost firings that get a row each in the history; those after them share one."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Firings that never became a run: the one at a moment, or all from then until another."""

    at: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Following:
    """What comes after a run of a schedule is over.

    Attributes:
        next_at: the firing that takes its place.
        lost: the firings that passed meanwhile and get no run.
    """

    next_at: datetime
    lost: list[Lost]


class Ending(NamedTuple):
    """How a run ended, its attempt at least, and what shall become of it.

    Without a token it ended before it was claimed: dropped, or cancelled while it waited.

    Attributes:
        schedule: the job's, as it was at the claim; None for a task.
        value: what the function returned, as JSON text.
        failures: of the run so far, this attempt's included; `crashes` likewise.
        retry_in: seconds until the same run is due again; None if it is over.
        next_at: when it is over, the firing that takes its place; None for a task.
        lost: when it is over, the firings that passed without a run of their own.
        spread: seconds, for the run that takes its place.
    """

    run_id: UUID
    job: str
    attempt: int
    token: UUID | None
    fence: int | None
    worker: str | None
    due_at: datetime
    started_at: datetime | None
    outcome: str
    error: str | None
    traceback: str | None
    value: str | None
    schedule: str | None
    timezone: str
    failures: int
    crashes: int
    retry_in: float | None
    next_at: datetime | None
    lost: Sequence[Lost]
    priority: int
    spread: float


def ending_of(claim: Claim, job: Job, result: Result, now: datetime) -> Ending:
    """Decide: an interruption costs nothing, a failure may be tried again, the rest is over.

    Args:
        claim: of the attempt.
        job: its settings.
        result: of the attempt.
        now: by the database's clock. A firing that has passed meanwhile gets no run of its own,
            so it must not be ahead.
    """
    failures = claim.failures + (result.outcome in ("failed", "timed_out"))
    crashes = claim.crashes + (result.outcome == "crashed")
    retry_in = _retry_in(claim, job, result, failures, crashes)
    follows = None
    if claim.schedule is not None:
        schedule = schedules.parse(claim.schedule, claim.timezone)
        follows = following(schedule, claim.due_at, now, job.catch_up)
    return Ending(
        run_id=claim.id,
        job=claim.job,
        attempt=claim.attempt,
        token=claim.token,
        fence=claim.fence,
        worker=claim.worker,
        due_at=claim.due_at,
        started_at=claim.started_at,
        outcome=result.outcome,
        error=result.error,
        traceback=result.traceback,
        value=result.value,
        schedule=claim.schedule,
        timezone=claim.timezone,
        failures=failures,
        crashes=crashes,
        retry_in=retry_in,
        next_at=follows.next_at if follows else None,
        lost=follows.lost if follows and retry_in is None else (),
        priority=job.priority,
        spread=job.spread,
    )


def unstarted(run: Mapping[str, Any], job: Mapping[str, Any]) -> Ending:
    """Return the end of a firing that waited and is not wanted any more.

    Args:
        run: id, job, attempt, due_at, failures, crashes, priority, spread in seconds, `now`, and
            whether it was `cancelled` or else is past its deadline.
        job: schedule, timezone and catch_up.
    """
    schedule = schedules.parse(job["schedule"], job["timezone"])
    follows = following(schedule, run["due_at"], run["now"], job["catch_up"])
    return Ending(
        run_id=run["id"],
        job=run["job"],
        attempt=run["attempt"],
        token=None,
        fence=None,
        worker=None,
        due_at=run["due_at"],
        started_at=None,
        outcome="cancelled" if run["cancelled"] else "missed",
        error="cancelled" if run["cancelled"] else "not started within its time",
        traceback=None,
        value=None,
        schedule=job["schedule"],
        timezone=job["timezone"],
        failures=run["failures"],
        crashes=run["crashes"],
        retry_in=None,
        next_at=follows.next_at,
        lost=follows.lost,
        priority=run["priority"],
        spread=run["spread"],
    )


def following(
    schedule: schedules.Schedule, due_at: datetime, now: datetime, catch_up: str
) -> Following:
    """Return which firing comes after a run, and which are lost between the two.

    Args:
        schedule: of the job.
        due_at: the firing that the run stood for.
        now: by the database's clock.
        catch_up: with `all`, firings that have passed get a run each, the newest hundred at most;
            else the run stood for all of them.
    """
    resume = max(due_at, now)
    if catch_up == "all":
        resume = schedules.newest(schedule, due_at, resume, _CATCH_UP_MOST)
    listed, more = schedules.passed(schedule, due_at, resume, _LISTED)
    lost = [Lost(firing) for firing in listed]
    if more:
        lost.append(Lost(more, until=resume))
    return Following(schedule.after(resume), lost)


def _retry_in(claim: Claim, job: Job, result: Result, failures: int, crashes: int) -> float | None:
    if result.outcome == "interrupted":
        return 0.0
    if result.outcome == "crashed":
        return job.retry_after(crashes) if crashes < MAX_CRASHES else None
    allowed = job.max_retries if claim.max_retries is None else claim.max_retries
    if failures == claim.failures or failures >= allowed or result.final:
        return None
    return job.retry_after(failures) if result.retry_in is None else result.retry_in
