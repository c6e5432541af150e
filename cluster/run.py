"""Run: what a job's function sees of the attempt it is, and the words for how one ends."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from structlog.stdlib import BoundLogger

from cluster import log

Connection = psycopg.Connection[tuple[object, ...]]
Connect = Callable[[], AbstractContextManager[Connection]]


class RunStopped(BaseException):
    """The run has to stop: cancelled, timed out, or its worker is leaving.

    Raised out of `progress`, `check` and `wait`. No `Exception`, so that a job's own
    `except Exception` does not swallow it.
    """


class Discard(Exception):  # noqa: N818 - it is an order, and reads as one
    """The run fails for good and is not tried again: `raise Discard("no such customer")`."""


class RetryIn(Exception):  # noqa: N818 - likewise
    """The run fails, and asks when it shall be tried again; it counts as any other failure.

    Args:
        seconds: from now.
        reason: for the history.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        super().__init__(reason or f"asked to be tried again in {seconds:g} s")
        self.seconds = min(float(seconds), _YEAR) if seconds > 0 else 0.0


_YEAR = 366 * 86400.0
MAX_CRASHES = 3
"""Deaths of its worker after which a run is parked. When only one is left it is performed in a
process of its own, so that the last death is certainly its own and nobody else's."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt that a worker holds: the row of `run` as it was claimed.

    Attributes:
        schedule: of the job; None for a task.
        worker: `host:pid` of who holds it.
        name: of a task, for people.
        args: of a task, as JSON text; None for a scheduled run.
        max_retries: of a task that has its own.
    """

    id: UUID
    job: str
    schedule: str | None
    timezone: str
    due_at: datetime
    attempt: int
    token: UUID
    fence: int
    started_at: datetime
    failures: int
    crashes: int
    worker: str
    name: str | None
    args: str | None
    max_retries: int | None

    @property
    def suspect(self) -> bool:
        """Whether one more death would park it."""
        return self.crashes >= MAX_CRASHES - 1


class Run:
    """One attempt of a job, handed to the job's function.

    Attributes:
        id: the run's UUID, the same for each of its attempts.
        job: the job's name.
        name: of a task, the name that whoever asked for it gave it; else the job's.
        attempt: 1 for the first.
        due_at: the firing that this run stands for, in UTC.
        token: UUID of this attempt, for outside systems as an idempotency key or fencing token.
        fence: grows with every attempt in this database, for outside systems that compare.
        worker: `host:pid` of the worker that performs it.
        log: a logger whose lines carry worker, job, run and attempt.
    """

    def __init__(self, claim: Claim, connect: Connect) -> None:
        self.id = claim.id
        self.job = claim.job
        self.name = claim.name or claim.job
        self.attempt = claim.attempt
        self.due_at = claim.due_at
        self.token = claim.token
        self.fence = claim.fence
        self.worker = claim.worker
        self.log: BoundLogger = log.get("job").bind(
            worker=claim.worker, job=claim.job, run=str(claim.id), attempt=claim.attempt
        )
        self._connect = connect
        self._stop = threading.Event()
        self._reason = ""
        self._seen = False
        self._fraction: float | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the run has to stop; a function that sees True may return at once."""
        self._seen = self._stop.is_set()
        return self._seen

    def check(self) -> None:
        """Raise `RunStopped` if the run has to stop."""
        if self.cancelled:
            raise RunStopped(self._reason)

    def progress(self, fraction: float) -> None:
        """Say how much is done, 0 to 1, shown within two seconds; raises as `check` does."""
        if not math.isnan(fraction):
            # Rounded, for a number too small for the database's type is an error there.
            self._fraction = round(min(max(float(fraction), 0.0), 1.0), 4)
        self.check()

    def wait(self, seconds: float) -> None:
        """Sleep, but wake at once and raise `RunStopped` when the run has to stop."""
        self._stop.wait(max(seconds, 0))
        self.check()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a database connection in autocommit mode, from a pool apart from the engine's.

        Raises:
            psycopg.OperationalError: the database can't be reached, or every connection is lent.
        """
        with self._connect() as connection:
            yield connection

    def stop(self, reason: str) -> None:
        """Tell the run to stop, with the outcome it shall end with. For the worker."""
        self._reason = self._reason or reason
        self._stop.set()

    @property
    def stopped(self) -> str:
        """The outcome it was told to end with, if the function saw it; else empty. For the worker.

        A function that came to its end without looking has done its work, whoever told it what.
        """
        return self._reason if self._seen else ""

    @property
    def told(self) -> str:
        """The outcome it was told to end with, seen or not; else empty. For who performs it."""
        return self._reason if self._stop.is_set() else ""

    @property
    def fraction(self) -> float | None:
        """What `progress` was last told. For the worker."""
        return self._fraction
