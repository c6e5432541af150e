"""Run: what a job's function sees of the attempt it is, and the words for how one ends."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import orjson
import psycopg
from structlog.stdlib import BoundLogger

from cluster import log
from cluster.values import kept

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


class Claim(NamedTuple):
    """An attempt that a worker holds: the row of `run` as it was claimed.

    A tuple, for a frozen dataclass of as many fields takes four times as long to make.

    Attributes:
        schedule: of the job; None for a task.
        worker: `host:pid` of who holds it.
        name: of a task, for people.
        args: of a task, as JSON text; None for a scheduled run.
        max_retries: of a task that has its own.
        checkpoint: what an attempt before this one has kept, as JSON text.
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
    checkpoint: str | None

    @property
    def suspect(self) -> bool:
        """Whether one more death would park it."""
        return self.crashes >= MAX_CRASHES - 1


class Standing(Enum):
    """What the database says of an attempt that wants to commit."""

    CURRENT = "current"
    CANCELLED = "cancelled"
    LOST = "interrupted"  # somebody else's by now


class Guard(Protocol):
    """What a run's transaction asks the database just before it commits.

    Each holds the run's row until the transaction ends, so that whoever takes the run over waits
    for it, and finds what it has written.
    """

    def hold(self, connection: Connection, claim: Claim) -> Standing:
        """Say how the attempt stands."""

    def keep(self, connection: Connection, claim: Claim, checkpoint: str) -> None:
        """Write a checkpoint, as JSON text."""

    def finish(self, connection: Connection, claim: Claim, value: str | None) -> None:
        """End the run as completed, with a result as JSON text."""


@dataclass(slots=True)
class _Transaction:
    """What a block of `Run.transaction` wants written with its commit, as JSON text."""

    checkpoint: str | None = None
    finished: bool = False
    value: str | None = None


class Checkpoint:
    """What a run keeps for its next attempt: call it to keep a value, read `value` to find it.

    Attributes:
        value: what was kept last, by this attempt or by one before it; None if nothing was.
    """

    def __init__(self, run: "Run", text: str | None) -> None:
        self._run = run
        self.value: Any = None if text is None else orjson.loads(text)

    def __call__(self, value: object) -> None:
        """Keep a value of at most 64 KiB of JSON, for good once this returns.

        Inside `Run.transaction` it is kept if and only if the block commits.

        Raises:
            ValueMisfitError: it does not fit.
            RunStopped: the attempt is over: cancelled, or taken over by somebody else.
            psycopg.OperationalError: the database can't be reached.
        """
        text = kept(value)
        with self._run.joined() as transaction:
            transaction.checkpoint = text
        self.value = orjson.loads(text)


class Run:
    """One attempt of a job, handed to the job's function.

    Attributes:
        id: the run's UUID, the same for each of its attempts.
        job: the job's name.
        name: of a task, the name that whoever asked for it gave it; else the job's.
        attempt: 1 for the first.
        due_at: the firing that this run stands for, in UTC; of a task, when it was wanted.
        token: UUID of this attempt, for outside systems as an idempotency key or fencing token.
        fence: grows with every attempt in this database, for outside systems that compare.
        worker: `host:pid` of the worker that performs it.
        checkpoint: see `Checkpoint`.
    """

    def __init__(self, claim: Claim, connect: Connect, guard: Guard | None = None) -> None:
        self.id = claim.id
        self.job = claim.job
        self.name = claim.name or claim.job
        self.attempt = claim.attempt
        self.due_at = claim.due_at
        self.token = claim.token
        self.fence = claim.fence
        self.worker = claim.worker
        self.checkpoint = Checkpoint(self, claim.checkpoint)
        self._claim = claim
        self._connect = connect
        self._guard = guard
        self._finished = False
        self._stop = False
        self._told: threading.Event | None = None  # made by who waits for it; most never do
        self._reason = ""
        self._seen = False
        self._fraction: float | None = None

    @cached_property
    def log(self) -> BoundLogger:
        """A logger whose lines carry worker, job, run and attempt."""
        claim = self._claim
        logger: BoundLogger = log.get("job").bind(
            worker=claim.worker, job=claim.job, run=str(claim.id), attempt=claim.attempt
        )
        return logger

    @property
    def cancelled(self) -> bool:
        """Whether the run has to stop; a function that sees True may return at once."""
        self._seen = self._stop
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
        told = self._told = self._told or threading.Event()
        if not self._stop:  # set before it looks whether somebody waits
            told.wait(max(seconds, 0))
        self.check()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a database connection in autocommit mode, from a pool apart from the engine's.

        Raises:
            psycopg.OperationalError: the database can't be reached, or every connection is lent.
        """
        with self._connect() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend a connection in a transaction that commits only while this attempt is current.

        An attempt whose worker was declared dead, or that was cancelled, may still be running
        somewhere; what it does in here is rolled back then. With `finish` as well, the effect and
        the completion of the run are one commit, so that the effect happens exactly once.

        Raises:
            RunStopped: the attempt is over; nothing was committed.
            psycopg.OperationalError: the database can't be reached. If it was lost during the
                commit, nobody knows whether that took place; the next attempt will see.
            RuntimeError: inside another one, or after `finish`.
        """
        if self._within or self._finished:
            raise RuntimeError("a run's transaction neither nests, nor follows its end")
        self.check()
        with self._connect() as connection:
            within = self._here.transaction = _Transaction()
            try:
                with connection.transaction():
                    yield connection
                    self._seal(connection, within)
            finally:
                self._here.transaction = None
        self._finished = within.finished

    @contextmanager
    def joined(self) -> Iterator[_Transaction]:
        """Write with the commit of the transaction we are in, or else with one of our own."""
        if self._within:
            yield self._within
            return
        with self.transaction():
            assert self._within  # noqa: S101 - that is what it is for
            yield self._within

    def finish(self, result: object = None) -> None:
        """End the run as completed, in the commit of the transaction we are in.

        What the function does or returns afterwards changes nothing any more.

        Args:
            result: of a task; at most 64 KiB of JSON.

        Raises:
            ValueMisfitError: the result does not fit.
            RuntimeError: outside of `transaction`.
        """
        if not self._within:
            raise RuntimeError("a run is finished inside of its transaction")
        self._within.value = None if result is None else kept(result)
        self._within.finished = True

    @cached_property
    def _here(self) -> threading.local:
        """What each thread is in. Made late: when it goes, all threads of the process are asked."""
        return threading.local()

    @property
    def finished(self) -> bool:
        """Whether `finish` was committed."""
        return self._finished

    @property
    def _within(self) -> _Transaction | None:
        """The transaction that the calling thread is in."""
        return getattr(self._here, "transaction", None)

    def _seal(self, connection: Connection, within: _Transaction) -> None:
        """Let the commit that follows take place only if the attempt is the current one.

        Last thing, so that the row of the run is held for a moment only: a heartbeat that has
        progress to write there would wait.
        """
        if self._guard is None:
            raise RuntimeError("this run has no database")
        standing = self._guard.hold(connection, self._claim)
        if standing is not Standing.CURRENT:
            self.stop(standing.value)
            self.check()
        if within.finished:
            self._guard.finish(connection, self._claim, within.value)
        elif within.checkpoint is not None:
            self._guard.keep(connection, self._claim, within.checkpoint)

    def stop(self, reason: str) -> None:
        """Tell the run to stop, with the outcome it shall end with. For the worker."""
        self._reason = self._reason or reason
        self._stop = True
        if self._told:
            self._told.set()

    @property
    def stopped(self) -> str:
        """The outcome it was told to end with, if the function saw it; else empty. For the worker.

        A function that came to its end without looking has done its work, whoever told it what.
        """
        return self._reason if self._seen else ""

    @property
    def told(self) -> str:
        """The outcome it was told to end with, seen or not; else empty. For who performs it."""
        return self._reason if self._stop else ""

    @property
    def fraction(self) -> float | None:
        """What `progress` was last told. For the worker."""
        return self._fraction
