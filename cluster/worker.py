"""Worker: the loop that shares the work. Beat, finish, claim, take over; then sleep.

One thread makes every decision and all of the engine's statements, so nothing here needs a
lock. It knows no other worker: what it respects of one is a lease in a row.
"""

import math
import random
import threading
import time
from collections.abc import Callable
from uuid import UUID

import psycopg
from structlog.stdlib import BoundLogger

from cluster import log, spread
from cluster import schedule as schedules
from cluster.clock import Clock
from cluster.database import Pool
from cluster.ending import Ending, ending_of
from cluster.job import Catalogue
from cluster.process import Identity, is_dead
from cluster.run import Claim
from cluster.runner import Runner
from cluster.store import jobs, leases, runs

POLL_SECONDS = 1.25
"""An idle worker's looks: 0.8 a second, and with the beats of a 15 s lease 1 statement a second."""
_SOONEST = 0.01
"""Seconds between two looks at least: a run that another worker is just claiming looks open."""
_HISTORY_SECONDS = 3600.0
"""Between two looks whether the history has partitions for the days to come."""
_TRUSTED = 0.6
"""Part of the lease after which a worker without an answer stops its runs. The rest is for a
statement that hangs in a silent network (3 s, see `database`) and for the runs to stop."""
_NOBODY = UUID(int=0)


class Worker:
    """The job side of one process.

    Args:
        name: `host:pid`, for people.
        process: who this process is.
        catalogue: the jobs its code knows.
        pool: connections of the engine alone.
        runner: performs what is claimed.
        lease_seconds: how long its word counts; the heartbeat comes at a third of it.
        alive: False once the process shall end or its parent is gone; asked at every turn.
        nudge: set by whoever has work for the loop.
    """

    def __init__(
        self,
        *,
        name: str,
        process: Identity,
        catalogue: Catalogue,
        pool: Pool,
        runner: Runner,
        lease_seconds: float,
        alive: Callable[[], bool],
        nudge: threading.Event,
    ) -> None:
        self._name = name
        self._process = process
        self._catalogue = catalogue
        self._pool = pool
        self._runner = runner
        self._lease = lease_seconds
        # A beat may come that much sooner or later, so that it falls together with a look.
        self._slack = min(POLL_SECONDS / 2, lease_seconds / 12)
        self._alive = alive
        self._nudge = nudge
        self._turn = spread.turn(process.pid)
        self._phase = spread.phase(process.pid)
        self._log = log.get("worker").bind(worker=name)
        self._id: UUID | None = None
        self._unwritten: list[Ending] = []
        self._stopping = threading.Event()
        self._beaten_at = -math.inf  # monotonic, when the last good beat was sent
        self._beat_at = -math.inf
        self._history_at = -math.inf
        self._clock = Clock()
        self._failures = 0
        self._thread = threading.Thread(target=self._loop, name="worker", daemon=True)

    def start(self) -> None:
        """Start the loop in a thread of its own; it waits for the database by itself."""
        self._thread.start()

    def stop(self, within: float) -> None:
        """Claim no more, tell the runs, and wait for them; what is left is handed over.

        A run that does not end is given to another worker when proof of this process's death
        is there, never sooner, and is recorded as interrupted.

        Args:
            within: seconds to wait at most.
        """
        self._stopping.set()
        self._nudge.set()
        self._thread.join(within)

    def _loop(self) -> None:
        while True:
            self._nudge.clear()  # before the look at what it may have been set for
            if self._stopping.is_set() or not self._alive():
                break
            self._nudge.wait(self._once())
        self._drain()

    def _once(self) -> float:
        """Do what there is to do; return the seconds until the next turn unless nudged."""
        try:
            pause = self._work()
        except psycopg.Error as error:
            return self._trouble(error)
        except Exception:  # noqa: BLE001 - a loop that dies leaves a worker that only looks alive
            self._log.exception("the loop goes on after an error that nobody expected")
            self._beat_at = -math.inf
            return POLL_SECONDS
        self._failures = 0
        return pause

    def _work(self) -> float:
        worker = self._id or self._join()
        if time.monotonic() >= self._beat_at - self._slack and not self._beat(worker):
            return 0.0
        self._runner.stop_overdue()
        self._finish()
        look = self._claim(worker)
        if self._take_over(look):
            return 0.0
        if time.monotonic() >= self._history_at:
            jobs.prepare_history(self._pool)
            self._history_at = time.monotonic() + _HISTORY_SECONDS
        return self._pause(look)

    def _join(self) -> UUID:
        """Register under a new identity and declare the jobs, once the database is there."""
        sent = time.monotonic()
        names = [job.name for job in self._catalogue]
        # The dead first, so that the leases of a cluster killed whole don't count as alive.
        self._take_over(runs.claim(self._pool, _NOBODY, self._process.host, [], 0, 0, 0.0))
        jobs.declare(self._pool, self._catalogue)
        worker = leases.register(self._pool, self._name, self._process, names, self._lease)
        self._id = worker
        self._beaten_at = sent
        self._beat_at = sent + self._lease / 3
        self._log.info("joined", id=str(worker), jobs=len(names))
        return worker

    def _beat(self, worker: UUID) -> bool:
        """Renew the lease and say what we hold; False if it is gone and we have to begin anew."""
        sent = time.monotonic()
        held = [(a.claim.token, a.run.fraction) for a in self._runner.attempts]
        if leases.beat(self._pool, worker, held):
            self._beaten_at = sent
            self._beat_at = sent + self._lease / 3
            return True
        self._log.error("declared dead by others; stopping its runs and beginning anew")
        self._runner.stop("interrupted")
        self._id = None
        return False

    def _finish(self) -> None:
        """Write the results that are there; those whose answer was lost are written again."""
        self._unwritten += [
            ending_of(result, self._clock.now()) for result in self._runner.results()
        ]
        if not self._unwritten:
            return
        written = runs.finish(self._pool, self._unwritten)
        for ended, ending in zip(written, self._unwritten, strict=True):
            self._runner.forget(ending.token)
            _report(self._log, ending, fenced=ended.fenced)
            if ended.schedule and ended.schedule != ending.schedule:
                # Changed while it ran: the firing we planned is the old schedule's.
                firing = schedules.parse(ended.schedule, ending.timezone).after(self._clock.now())
                jobs.reschedule(self._pool, ending.job, firing)
        self._unwritten = []

    def _claim(self, worker: UUID) -> runs.Look:
        """Claim what is open for us, start it, and bring back what else there is to see."""
        load = len(self._runner.attempts)
        look = runs.claim(
            self._pool,
            worker,
            self._process.host,
            [job.name for job in self._catalogue],
            load,
            max(self._runner.slots - load, 0),
            self._phase,
        )
        self._clock.set(look.now)
        for claim in look.claims:
            self._start(claim)
        return look

    def _start(self, claim: Claim) -> None:
        job = self._catalogue.get(claim.job)
        assert job  # noqa: S101 - only names of the catalogue were asked for
        if claim.crashes >= job.max_retries:
            reason = f"given up: its worker died {claim.crashes} times"
            self._runner.refuse(claim, job, reason)
            self._nudge.set()
        else:
            self._runner.start(claim, job)
        self._log.info("run started", job=job.name, run=str(claim.id), attempt=claim.attempt)

    def _take_over(self, look: runs.Look) -> bool:
        """Free the runs of the dead; True if there were any, and so something to claim."""
        proven = [peer.id for peer in look.peers if self._is_dead(peer)]
        if not (proven or look.stranded or any(peer.expired for peer in look.peers)):
            return False
        lost = leases.take_over(self._pool, proven)
        for run in lost:
            self._log.warning(
                "run taken over",
                job=run.job,
                run=str(run.run_id),
                attempt=run.attempt,
                outcome=run.outcome,
                lost_by=run.worker,
            )
        return bool(lost)

    def _is_dead(self, peer: runs.Peer) -> bool:
        return peer.process.host == self._process.host is not None and is_dead(peer.process)

    def _pause(self, look: runs.Look) -> float:
        """Return the seconds until something may be due: a look, a run, a beat, a timeout."""
        monotonic = time.monotonic()
        pauses = [
            spread.until_poll(self._clock.now().timestamp(), self._turn, POLL_SECONDS),
            self._beat_at + self._slack - monotonic,
            *(a.deadline - monotonic for a in self._runner.attempts if a.deadline > monotonic),
        ]
        if look.wake_at and len(self._runner.attempts) < self._runner.slots:
            pauses.append((look.wake_at - self._clock.now()).total_seconds())
        return max(min(pauses), _SOONEST)

    def _trouble(self, error: psycopg.Error) -> float:
        """Note that the database does not answer; return the seconds until the next try."""
        if self._failures in (0, 10, 100) or self._failures % 1000 == 0:
            reason = str(error).strip().split("\n")[0]
            self._log.warning("trouble with the database", reason=reason, tries=self._failures + 1)
        self._failures += 1
        self._beat_at = -math.inf  # first thing: the answer to a claim may have been lost
        if time.monotonic() - self._beaten_at > self._lease * _TRUSTED:
            self._runner.stop("interrupted")
        if self._failures == 1:
            return 0.0  # most likely the session alone was ended, and the next one is here
        longest: float = min(0.1 * 2 ** min(self._failures - 1, 6), 2.0)
        return random.uniform(0.5, 1) * longest  # noqa: S311 - jitter, no secret

    def _drain(self) -> None:
        """End in order: tell the runs, write their ends, give the lease back."""
        self._runner.stop("interrupted")
        said = False
        while self._id:
            try:
                if not said:
                    leases.leave(self._pool, self._id)
                    said = True
                if time.monotonic() >= self._beat_at and not self._beat(self._id):
                    break
                self._finish()
                if not self._runner.attempts and leases.resign(self._pool, self._id):
                    break
            except psycopg.Error as error:
                self._trouble(error)
            self._nudge.wait(0.1)
            self._nudge.clear()
        self._log.info("left", unfinished=len(self._runner.attempts))


def _report(logger: BoundLogger, ending: Ending, *, fenced: bool) -> None:
    outcome = "fenced" if fenced else ending.outcome
    say = logger.info if outcome == "completed" else logger.warning
    fields = {"error": ending.error} if ending.error else {}
    say(
        "run ended",
        job=ending.job,
        run=str(ending.run_id),
        attempt=ending.attempt,
        outcome=outcome,
        **fields,
    )
