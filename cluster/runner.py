"""Runner: performs claimed runs and says how each ended."""

import math
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from queue import SimpleQueue
from uuid import UUID

from cluster.job import Job
from cluster.perform import Result, perform, raised
from cluster.run import Claim, Connect, Guard, Run


@dataclass(slots=True)
class Attempt:
    """A claim that is being performed here.

    Attributes:
        deadline: by the monotonic clock, in seconds, when its timeout ends.
        trusted_until: by the same clock; then its process is killed unless we said more.
        at_once: it has to stop at once if it is told to stop, so its process may be killed.
        where: says where its process is, None for as long as that is to come; if it has one.
        outcome: how it came back, once it has.
    """

    claim: Claim
    job: Job
    run: Run
    deadline: float
    trusted_until: float = math.inf
    at_once: bool = False
    where: Callable[[], str | None] | None = None
    outcome: str | None = None

    def stop(self, reason: str) -> None:
        """Tell the run to stop at once: TERM for a process of its own, and then KILL."""
        self.at_once = True  # first, so that nobody sees the word without it
        self.run.stop(reason)


Apart = Callable[[Attempt], Result]
Attend = Callable[[Attempt], AbstractContextManager[object]]


@dataclass(slots=True)
class Runner:
    """Performs runs, at most `slots` at once, in daemon threads of this process or from there.

    Daemons, because a thread that interpreter exit waits for would go on with its job as an
    orphan after the process was told to end. A result counts as load until it is taken, so that
    a worker's load is what the database holds it to.

    Attributes:
        slots: runs at once.
        connect: lends the runs a connection.
        apart: performs an attempt in a process of its own; for suspects, and jobs that say so.
        wake: called from a run's thread when a result waits.
        guard: of the runs' own transactions; None where there is no database.
        attend: entered by the thread of a run for as long as it performs it.
    """

    slots: int
    connect: Connect
    apart: Apart
    wake: Callable[[], None]
    guard: Guard | None = None
    attend: Attend = nullcontext
    _attempts: dict[int, Attempt] = field(default_factory=dict)  # by token, whose hash is slow
    _queue: SimpleQueue[Attempt] = field(default_factory=SimpleQueue)
    _results: SimpleQueue[tuple[Attempt, Result]] = field(default_factory=SimpleQueue)
    _shared: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)  # of the next two
    _threads: int = 0
    _idle: int = 0  # threads that wait for an attempt, or are about to
    _trusted_until: float = math.inf

    @property
    def attempts(self) -> list[Attempt]:
        """What is under way, results that nobody has taken included."""
        return list(self._attempts.values())

    @property
    def load(self) -> int:
        """How many are under way, results that nobody has taken included."""
        return len(self._attempts)

    @property
    def shared(self) -> int:
        """How many of these are of jobs with a spread."""
        return self._shared

    def start(self, claim: Claim, job: Job, *, trusted_until: float | None = None) -> None:
        """Perform a claim; its result comes by `results`.

        Args:
            claim: what to perform.
            job: its function and settings.
            trusted_until: see `trust`, for this one alone.
        """
        run = Run(claim, self.connect, self.guard)
        deadline = time.monotonic() + job.timeout
        attempt = Attempt(claim, job, run, deadline, trusted_until or self._trusted_until)
        self._attempts[claim.token.int] = attempt
        self._shared += job.spread > 0
        self._queue.put(attempt)
        self._staff()

    def results(self) -> list[tuple[Attempt, Result]]:
        """Return the results that are there; each is the caller's until `forget`."""
        return [self._results.get() for _ in range(self._results.qsize())]

    def forget(self, token: UUID) -> None:
        """Give the slot of an attempt back, once its end is written."""
        if attempt := self._attempts.pop(token.int, None):
            self._shared -= attempt.job.spread > 0

    def trust(self, until: float) -> None:
        """Let processes live until then, by the monotonic clock; called again before.

        Without it a worker that is frozen, or has lost the database, could not keep its runs
        from going on beside their successors. What has to stop at once is not let live longer.
        """
        self._trusted_until = until
        for attempt in self.attempts:
            if not attempt.at_once:
                attempt.trusted_until = until

    def stop(self, reason: str) -> None:
        """Tell every run to stop at once, with the outcome it shall end with."""
        for attempt in self.attempts:
            attempt.stop(reason)

    def leave(self) -> None:
        """Tell every run that this process is about to end; until then it may go on."""
        for attempt in self.attempts:
            attempt.run.stop("interrupted")

    def cancel(self, tokens: Iterable[UUID]) -> None:
        """Tell the runs to stop whose attempts these are."""
        for token in tokens:
            if attempt := self._attempts.get(token.int):
                attempt.stop("cancelled")

    def stop_overdue(self) -> None:
        """Tell the runs to stop whose timeout is over."""
        now = time.monotonic()
        for attempt in self.attempts:
            if now >= attempt.deadline:
                attempt.stop("timed_out")

    def _staff(self) -> None:
        """Start a thread if an attempt waits and nobody is there to take it.

        Asked after each attempt that comes, and by each thread that takes one: so what waits is
        never left to threads that are busy, and tasks that do nothing share a few.
        """
        with self._lock:
            if self._idle or self._threads == self.slots or self._queue.empty():
                return
            self._idle += 1
            self._threads += 1
            name = f"run-{self._threads}"
        try:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        except RuntimeError:  # no more to be had; what waits is left to those that are there
            with self._lock:
                self._idle -= 1
                self._threads -= 1
                if not self._threads:
                    raise

    def _serve(self) -> None:
        while True:
            attempt = self._queue.get()
            with self._lock:
                self._idle -= 1
            self._staff()
            result = self._attended(attempt)
            with self._lock:
                self._idle += 1
            self._results.put((attempt, result))
            self.wake()

    def _attended(self, attempt: Attempt) -> Result:
        """Perform an attempt, and let nothing around it end this thread.

        Nobody else would say how the attempt has ended: it would be held for ever. What goes wrong
        before it has come back is its failure, and afterwards changes nothing.
        """
        result: Result | None = None
        claim = attempt.claim
        try:
            with self.attend(attempt):
                if claim.suspect or attempt.job.isolation == "process":
                    result = self.apart(attempt)
                else:
                    result = perform(attempt.job, attempt.run, claim.args)
                attempt.outcome = result.outcome
        except BaseException as error:
            if result is None:
                return raised(error, attempt.run)
            attempt.run.log.warning("a run could not be left in order", exc_info=True)
        return result
