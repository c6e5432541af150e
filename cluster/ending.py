"""Endings: what becomes of a run whose attempt has come back (pure)."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cluster import schedule as schedules
from cluster.job import Job
from cluster.perform import Result
from cluster.run import MAX_CRASHES, Claim


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended and what shall become of its run.

    Attributes:
        schedule: the job's, as it was at the claim; None for a task.
        value: what the function returned, as JSON text.
        failures: of the run so far, this attempt's included; `crashes` likewise.
        retry_in: seconds until the same run is due again; None if it is over.
        next_at: when it is over, the firing that takes its place; None for a task.
        spread: seconds, for the run that takes its place.
    """

    run_id: UUID
    job: str
    attempt: int
    token: UUID
    fence: int
    worker: str
    due_at: datetime
    started_at: datetime
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
    priority: int
    spread: float


def ending_of(claim: Claim, job: Job, result: Result, now: datetime) -> Ending:
    """Decide: an interruption costs nothing, a failure may be tried again, the rest is over.

    Args:
        claim: of the attempt.
        job: its settings.
        result: of the attempt.
        now: by the database's clock. A firing that has passed meanwhile is skipped, so it
            must not be ahead.
    """
    failures = claim.failures + (result.outcome in ("failed", "timed_out"))
    crashes = claim.crashes + (result.outcome == "crashed")
    next_at = None
    if claim.schedule is not None:
        next_at = schedules.parse(claim.schedule, claim.timezone).after(now)
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
        retry_in=_retry_in(claim, job, result, failures, crashes),
        next_at=next_at,
        priority=job.priority,
        spread=job.spread,
    )


def _retry_in(claim: Claim, job: Job, result: Result, failures: int, crashes: int) -> float | None:
    if result.outcome == "interrupted":
        return 0.0
    if result.outcome == "crashed":
        return job.retry_after(crashes) if crashes < MAX_CRASHES else None
    allowed = job.max_retries if claim.max_retries is None else claim.max_retries
    if failures == claim.failures or failures >= allowed or result.final:
        return None
    return job.retry_after(failures) if result.retry_in is None else result.retry_in
