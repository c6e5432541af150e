"""Runner: performs claimed runs in threads and says how each ended."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import SimpleQueue
from uuid import UUID

from cluster.job import Job
from cluster.perform import Result, perform
from cluster.run import Claim, Connect, Guard, Run

Apart = Callable[[Claim, Run], Result]


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


@dataclass(slots=True)
class Runner:
    """Performs runs, at most `slots` at once, in daemon threads of this process.

    Daemons, because a thread that interpreter exit waits for would go on with its job as an
    orphan after the process was told to end. A result counts as load until it is taken, so that
    a worker's load is what the database holds it to.

    Attributes:
        slots: runs at once.
        connect: lends the runs a connection.
        apart: performs a claim in a process of its own; for suspects.
        wake: called from a run's thread when a result waits.
        guard: of the runs' own transactions; None where there is no database.
    """

    slots: int
    connect: Connect
    apart: Apart
    wake: Callable[[], None]
    guard: Guard | None = None
    _attempts: dict[UUID, Attempt] = field(default_factory=dict)
    _queue: SimpleQueue[Attempt] = field(default_factory=SimpleQueue)
    _results: SimpleQueue[tuple[Attempt, Result]] = field(default_factory=SimpleQueue)
    _threads: int = 0

    @property
    def attempts(self) -> list[Attempt]:
        """What is under way, results that nobody has taken included."""
        return list(self._attempts.values())

    def start(self, claim: Claim, job: Job) -> None:
        """Perform a claim in a thread; its result comes by `results`."""
        run = Run(claim, self.connect, self.guard)
        attempt = Attempt(claim, job, run, time.monotonic() + job.timeout)
        self._attempts[claim.token] = attempt
        if self._threads < min(len(self._attempts), self.slots):
            self._threads += 1
            threading.Thread(target=self._serve, name=f"run-{self._threads}", daemon=True).start()
        self._queue.put(attempt)

    def results(self) -> list[tuple[Attempt, Result]]:
        """Return the results that are there; each is the caller's until `forget`."""
        return [self._results.get() for _ in range(self._results.qsize())]

    def forget(self, token: UUID) -> None:
        """Give the slot of an attempt back, once its end is written."""
        self._attempts.pop(token, None)

    def stop(self, reason: str) -> None:
        """Tell every run to stop, with the outcome it shall end with."""
        for attempt in self.attempts:
            attempt.run.stop(reason)

    def cancel(self, tokens: Iterable[UUID]) -> None:
        """Tell the runs to stop whose attempts these are."""
        for token in tokens:
            if attempt := self._attempts.get(token):
                attempt.run.stop("cancelled")

    def stop_overdue(self) -> None:
        """Tell the runs to stop whose timeout is over."""
        now = time.monotonic()
        for attempt in self.attempts:
            if now >= attempt.deadline:
                attempt.run.stop("timed_out")

    def _serve(self) -> None:
        while True:
            attempt = self._queue.get()
            claim = attempt.claim
            if claim.suspect:
                result = self.apart(claim, attempt.run)
            else:
                result = perform(attempt.job, attempt.run, claim.args)
            self._results.put((attempt, result))
            self.wake()
