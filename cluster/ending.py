"""Endings: what becomes of a run whose attempt has come back (pure)."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cluster import schedule as schedules
from cluster.runner import Result


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended and what shall become of its run.

    Attributes:
        schedule: the job's, as it was at the claim.
        failures: of the run so far, this attempt's included.
        retry_in: seconds until the same run is due again; None if it is over.
        next_at: when it is over, the firing that takes its place.
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
    schedule: str
    timezone: str
    failures: int
    retry_in: float | None
    next_at: datetime | None
    priority: int
    spread: float


def ending_of(result: Result, now: datetime) -> Ending:
    """Decide: an interruption costs nothing, a failure may be tried again, the rest is over.

    Args:
        result: of the attempt.
        now: by the database's clock. A firing that has passed meanwhile is skipped, so it
            must not be ahead.
    """
    claim, job = result.attempt.claim, result.attempt.job
    failed = result.outcome in ("failed", "timed_out")
    failures = claim.failures + failed
    retry_in = None
    if result.outcome == "interrupted":
        retry_in = 0.0
    elif failed and failures < job.max_retries and not result.final:
        retry_in = job.retry_after(failures)
    return Ending(
        run_id=claim.id,
        job=claim.job,
        attempt=claim.attempt,
        token=claim.token,
        fence=claim.fence,
        worker=result.attempt.run.worker,
        due_at=claim.due_at,
        started_at=claim.started_at,
        outcome=result.outcome,
        error=result.error,
        traceback=result.traceback,
        schedule=claim.schedule,
        timezone=claim.timezone,
        failures=failures,
        retry_in=retry_in,
        next_at=schedules.parse(claim.schedule, claim.timezone).after(now),
        priority=job.priority,
        spread=job.spread,
    )
