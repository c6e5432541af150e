"""Runner: performs claimed runs in threads and says how each ended."""

import math
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from uuid import UUID

from cluster.job import Job
from cluster.run import Claim, Connect, Run, RunStopped

_LONGEST = 8192
"""Characters kept of an error's text and of its traceback's end."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claim that is being performed here.

    Attributes:
        deadline: by the monotonic clock, in seconds, when its timeout ends.
    """

    claim: Claim
    job: Job
    run: Run
    deadline: float


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt's function came back; `final` if it shall not be tried again."""

    attempt: Attempt
    outcome: str
    error: str | None = None
    traceback: str | None = None
    final: bool = False


@dataclass(slots=True)
class Runner:
    """Performs runs, at most `slots` at once, in daemon threads of this process.

    Daemons, because a thread that interpreter exit waits for would go on with its job as an
    orphan after the process was told to end. A result counts as load until it is taken, so that
    a worker's load is what the database holds it to.

    Attributes:
        slots: runs at once.
        name: `host:pid`, for the runs.
        connect: lends the runs a connection.
        wake: called from a run's thread when a result waits.
    """

    slots: int
    name: str
    connect: Connect
    wake: Callable[[], None]
    _attempts: dict[UUID, Attempt] = field(default_factory=dict)
    _queue: SimpleQueue[Attempt] = field(default_factory=SimpleQueue)
    _results: SimpleQueue[Result] = field(default_factory=SimpleQueue)
    _threads: int = 0

    @property
    def attempts(self) -> list[Attempt]:
        """What is under way, results that nobody has taken included."""
        return list(self._attempts.values())

    def start(self, claim: Claim, job: Job) -> None:
        """Perform a claim in a thread; its result comes by `results`."""
        run = Run(claim, self.name, self.connect)
        attempt = Attempt(claim, job, run, time.monotonic() + job.timeout)
        self._attempts[claim.token] = attempt
        if self._threads < min(len(self._attempts), self.slots):
            self._threads += 1
            threading.Thread(target=self._serve, name=f"run-{self._threads}", daemon=True).start()
        self._queue.put(attempt)

    def refuse(self, claim: Claim, job: Job, reason: str) -> None:
        """End a claim as failed for good, without performing it."""
        run = Run(claim, self.name, self.connect)
        attempt = Attempt(claim, job, run, math.inf)
        self._attempts[claim.token] = attempt
        self._results.put(Result(attempt, "failed", reason, final=True))

    def results(self) -> list[Result]:
        """Return the results that are there; each is the caller's until `forget`."""
        return [self._results.get() for _ in range(self._results.qsize())]

    def forget(self, token: UUID) -> None:
        """Give the slot of an attempt back, once its end is written."""
        self._attempts.pop(token, None)

    def stop(self, reason: str) -> None:
        """Tell every run to stop, with the outcome it shall end with."""
        for attempt in self.attempts:
            attempt.run.stop(reason)

    def stop_overdue(self) -> None:
        """Tell the runs to stop whose timeout is over."""
        now = time.monotonic()
        for attempt in self.attempts:
            if now >= attempt.deadline:
                attempt.run.stop("timed_out")

    def _serve(self) -> None:
        while True:
            self._results.put(_perform(self._queue.get()))
            self.wake()


def _perform(attempt: Attempt) -> Result:
    """Call the job's function; whatever it raises becomes an outcome."""
    run, function = attempt.run, attempt.job.function
    try:
        if attempt.job.wants_run:
            function(run)
        else:
            function()
    except BaseException as error:  # noqa: BLE001 - SystemExit in a job must not end its thread
        if isinstance(error, RunStopped) and run.stopped:
            return Result(attempt, run.stopped, "told to stop")
        text = "".join(traceback.format_exception_only(error)).strip()
        trace = "".join(traceback.format_exception(error))
        return Result(attempt, "failed", storable(text), storable(trace[-_LONGEST:]))
    if run.stopped:
        return Result(attempt, run.stopped, "told to stop")
    return Result(attempt, "completed")


def storable(text: str) -> str:
    """Return text that PostgreSQL can hold: no NUL, no lone surrogate, not too long."""
    return text[:_LONGEST].encode(errors="replace").decode().replace("\x00", "\ufffd")
