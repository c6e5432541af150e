"""Due: a job that somebody wants to run now, or the word for why it does not."""

from typing import Literal
from uuid import UUID

from cluster.database import Pool
from cluster.store import jobs
from cluster.store.views import Row


class NotNowError(Exception):
    """A job does not run now; the message says why, without a full stop.

    Attributes:
        state: in which it is.
    """

    def __init__(self, state: Literal["paused", "running"], message: str) -> None:
        super().__init__(message)
        self.state = state


def now(pool: Pool, job: Row, by: str) -> UUID:
    """Make a job due, in place of its next firing, and return its run.

    Args:
        pool: any.
        job: as `views.jobs` returns it.
        by: who wants it, for the record.

    Raises:
        NotNowError: it is paused, or runs.
    """
    name = job["name"]
    if job["paused"]:
        raise NotNowError("paused", f"{name} is paused; resume it first")
    run = jobs.run_now(pool, name, by)
    if run is None:
        raise NotNowError("running", f"{name} is running; it never runs twice at once")
    return run
