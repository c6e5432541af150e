"""Worker: the loop that shares the work. Beat, finish, claim, take over; then sleep.

One thread makes every decision and all of the engine's statements, so nothing here needs a
lock. It knows no other worker: what it respects of one is a lease in a row.
"""

import math
import random
import threading
import time
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import psycopg

from cluster import log, spread
from cluster import schedule as schedules
from cluster.clock import Clock
from cluster.database import Pool
from cluster.ending import Ending, ending_of
from cluster.job import Catalogue
from cluster.nudge import Nudge
from cluster.process import Identity, is_dead
from cluster.pulse import Pulse
from cluster.run import Claim
from cluster.runner import Runner
from cluster.store import jobs, leases, looks, pulse, retention, runs

POLL_SECONDS = 1.5
"""An idle worker's looks: with the beats of a 15 s lease 0.87 statements a second."""
_TELL_SECONDS = 1.0
"""Between two beats that only tell progress."""
_SOONEST = 0.01
"""Seconds between two looks at least: a run that another worker is just claiming looks open."""
_KEEP_SECONDS = 3600.0
"""Between two times that the days to come of the history are made, and what is old is dropped."""
_MORE_SECONDS = 1.0
"""The same, while there is more of what is old than is dropped at once."""
PATIENCE = 0.3
"""Part of the lease that a statement waits for its answer. A beat that is sent after a third of
the lease has failed before two thirds are over."""
_TRUSTED = 0.6
"""Part of the lease after which a worker without an answer stops its runs. The rest is for the
runs to stop."""
_JUMP = 1 / 3
"""Part of the lease by which the database's clock may differ from what ours has counted."""
_KILLED = 0.8
"""Part of the lease after which the processes of isolated runs are killed, whatever has become
of their worker. The rest is for that to happen, and for a clock that is a little slow."""
_AROUND_SECONDS = 0.25
"""Between two looks at the others, and between two at anything but the next runs while there are
more than the worker can take: who is busy looks for work far more often."""
_ABSENT = 0.4
"""Part of the lease without an answer after which others are given as much to renew theirs, as
they do after a third of it."""
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
        retention_days: how long the history is kept, what runs said, and what people did.
        alive: False once the process shall end or its parent is gone; asked at every turn.
        nudge: set by whoever has work for the loop; rung when there is more than it can take.
        copies: workers that its instance starts, itself included.
    """

    def __init__(  # noqa: PLR0913 - all that it is made of
        self,
        *,
        name: str,
        process: Identity,
        catalogue: Catalogue,
        pool: Pool,
        runner: Runner,
        lease_seconds: float,
        retention_days: int,
        alive: Callable[[], bool],
        nudge: Nudge,
        copies: int = 1,
    ) -> None:
        self._name = name
        self._process = process
        self._catalogue = catalogue
        self._pool = pool
        self._runner = runner
        self._lease = lease_seconds
        self._retention_days = retention_days
        # A beat may come that much sooner or later, so that it falls together with a look.
        self._slack = min(POLL_SECONDS / 2, lease_seconds / 12)
        self._alive = alive
        self._nudge = nudge
        self._copies = copies
        self._turn = spread.turn(process.pid)
        self._phase = spread.phase(process.pid)
        self._log = log.get("worker").bind(worker=name)
        self._id: UUID | None = None
        self._unwritten: list[Ending] = []
        self._limited: list[str] = []
        self._place: looks.Place | None = None  # where the last look ended, if it left work behind
        self._opens_at: datetime | None = None  # when something opens for us, as last seen
        self._told: dict[UUID, float | None] = {}
        self._stopping = threading.Event()
        self._beaten_at = -math.inf  # monotonic, when the last good beat was sent
        self._beat_at = -math.inf
        self._keep_at = -math.inf
        self._looked_at = math.inf  # monotonic; so that the first look is never late
        self._judges_at = -math.inf
        self._around_at = -math.inf
        self._clock = Clock()
        self._pulse = Pulse()
        self._pulse_id: UUID | None = None  # the first identity, so that no minute counts twice
        self._failures = 0
        self._thread = threading.Thread(target=self._loop, name="worker", daemon=True)

    def start(self) -> None:
        """Start the loop in a thread of its own; it waits for the database by itself."""
        self._nudge.open()
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
            pause = self._once()
            self._nudge.wait(pause, listen=self._runner.load < self._runner.slots)
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
        if self._beat_is_due() and not self._beat(worker):
            return 0.0
        self._runner.stop_overdue()
        look = self._advance(worker)
        if look.unsettled or self._clock.jumped > self._lease * _JUMP:
            self._settle(look)
            return 0.0
        self._consider()
        if self._take_over(look):
            return 0.0
        if look.unwanted and runs.drop(self._pool):
            return 0.0
        self._keep_house(look.now)
        return self._pause(look)

    def _keep_house(self, now: datetime) -> None:
        """Do what comes now and then, once the claims are under way."""
        if self._pulse.is_due(self._runner.load):
            self._write_pulse(now)
        if time.monotonic() >= self._keep_at:
            # First of all, so that what fails for good holds up nothing else at each turn.
            self._keep_at = time.monotonic() + _KEEP_SECONDS
            jobs.prepare_history(self._pool)
            pulse.forget(self._pool)
            dropped = retention.drop(self._pool, self._retention_days)
            if dropped.days:
                self._log.info("history dropped", days=dropped.days)
            if dropped.more:
                self._keep_at = time.monotonic() + _MORE_SECONDS

    def _write_pulse(self, now: datetime) -> None:
        assert self._pulse_id  # noqa: S101 - nothing is counted before the first lease
        counts = self._pulse.sent(now)
        self._pulse.written(now, pulse.write(self._pool, self._pulse_id, counts))

    def _join(self) -> UUID:
        """Register under a new identity and declare the jobs, once the database is there."""
        sent = time.monotonic()
        names = self._known()
        # Those whom we don't know yet may just have had no answer: a beat's time for them.
        self._judges_at = sent + self._lease * _ABSENT
        # The dead first, so that the leases of a cluster killed whole don't count as alive.
        nothing = looks.Ask(_NOBODY, self._process.host, [], 0, 0, 0.0)
        look = looks.claim(self._pool, nothing)
        if look.unsettled:
            leases.settle(self._pool)
        self._take_over(look)
        jobs.declare(self._pool, self._catalogue)
        worker = leases.register(
            self._pool,
            self._name,
            self._process,
            names,
            self._lease,
            slots=self._runner.slots,
            copies=self._copies,
        )
        self._id = worker
        self._pulse_id = self._pulse_id or worker
        self._beaten_at = sent
        self._runner.trust(sent + self._lease * _KILLED)
        self._beat_at = sent + self._lease / 3
        self._log.info("joined", id=str(worker), jobs=len(names))
        return worker

    def _beat_is_due(self) -> bool:
        """Whether the lease wants it, or a run has progress to tell since the poll before."""
        now = time.monotonic()
        if now >= self._beat_at - self._slack:
            return True
        return now >= self._beaten_at + _TELL_SECONDS and any(
            a.run.fraction is not None and a.run.fraction != self._told.get(a.claim.token)
            for a in self._runner.attempts
        )

    def _fractions(self) -> dict[UUID, float | None]:
        return {a.claim.token: a.run.fraction for a in self._runner.attempts}

    def _beat(self, worker: UUID) -> bool:
        """Renew the lease and say what we hold; False if it is gone and we have to begin anew."""
        sent = time.monotonic()
        held = self._fractions()
        if leases.beat(self._pool, worker, list(held.items())):
            self._told = held
            self._beaten_at = sent
            self._runner.trust(sent + self._lease * _KILLED)
            self._beat_at = sent + self._lease / 3
            return True
        self._log.error("declared dead by others; stopping its runs and beginning anew")
        self._runner.stop("interrupted")
        self._id = None
        return False

    def _known(self) -> list[str]:
        """Return the jobs that this worker may claim."""
        return [job.name for job in self._catalogue if not job.remote]

    def _advance(self, worker: UUID) -> looks.Look:
        """Write what has come back, claim what is open for us, and start it."""
        self._collect()
        sent = time.monotonic()
        ask = self._ask(worker, around=sent >= self._around_at)
        ended, look = runs.turn(self._pool, self._unwritten, ask)
        self._clock.set(look.now, sent)
        if ask.around:
            self._around_at = sent + _AROUND_SECONDS
        if not ask.after:
            self._opens_at = look.wake_at
        self._limited = look.limited
        self._place = look.last if len(look.claims) == ask.free else None
        if self._place or (not ask.free and look.wake_at and look.wake_at <= look.now):
            self._nudge.ring()
        self._runner.cancel(look.cancelled)
        self._begin(look)
        self._written(ended)
        return look

    def _ask(self, worker: UUID, *, around: bool) -> looks.Ask:
        # A run takes no slot once its end is written, which is before the claim.
        taken = self._runner.load - len(self._unwritten)
        opened = self._opens_at is not None and self._opens_at <= self._clock.now()
        return looks.Ask(
            worker=worker,
            host=self._process.host,
            jobs=self._known(),
            load=self._runner.shared - sum(each.spread > 0 for each in self._unwritten),
            free=max(self._runner.slots - taken, 0),
            phase=self._phase,
            limited=self._limited,
            around=around,
            after=None if around or opened or self._limited else self._place,
        )

    def _begin(self, look: looks.Look) -> None:
        """Start what was claimed, unless the answer came when others may have taken it over.

        Frozen between the two, we would begin beside the successor. The next beat says that we do
        not hold it, and gives it back if it is still ours.
        """
        if time.monotonic() - self._beaten_at > self._lease * _KILLED:
            self._beat_at = -math.inf
            return
        for claim, delay in zip(look.claims, look.delays, strict=True):
            self._start(claim)
            self._pulse.started(look.now, delay, claim.job)

    def _finish(self) -> None:
        """Write the results that are there."""
        self._collect()
        if self._unwritten:
            self._written(runs.finish(self._pool, self._unwritten))

    def _collect(self) -> None:
        """Decide about new results; those whose answer was lost are still there."""
        results = self._runner.results()
        if not results:
            return
        now = self._clock.now()
        for attempt, result in results:
            ending = ending_of(attempt.claim, attempt.job, result, now)
            if result.written:
                self._runner.forget(attempt.claim.token)
                self._report(ending, now, fenced=False)
            else:
                self._unwritten.append(ending)

    def _written(self, ended: list[runs.Ended]) -> None:
        """Give the slots back of what is written."""
        now = self._clock.now()
        written, self._unwritten = self._unwritten, []
        for each, ending in zip(ended, written, strict=True):
            assert ending.token  # noqa: S101 - it was claimed here
            self._runner.forget(ending.token)
            self._report(ending, now, fenced=each.fenced)
        for each, ending in zip(ended, written, strict=True):
            if each.schedule and each.schedule != ending.schedule:
                # Changed while it ran: the firing we planned is the old schedule's.
                firing = schedules.parse(each.schedule, ending.timezone).after(now)
                jobs.reschedule(self._pool, ending.job, firing)

    def _start(self, claim: Claim) -> None:
        job = self._catalogue.get(claim.job)
        assert job  # noqa: S101 - only names of the catalogue were asked for
        self._runner.start(claim, job)
        if claim.schedule:  # a line for each task would cost more than many a task
            self._log.info("run started", job=job.name, run=str(claim.id), attempt=claim.attempt)

    def _consider(self) -> None:
        """Judge nobody by lease for a while if we have had no answer for long ourselves.

        When the database stands still, all leases run out at once, and who comes back first would
        take over everybody.
        """
        now = time.monotonic()
        if now - self._looked_at > max(self._lease * _ABSENT, 2 * POLL_SECONDS):
            self._judges_at = now + self._lease * _ABSENT
        self._looked_at = now

    def _take_over(self, look: looks.Look) -> bool:
        """Free the runs of the dead; True if there were any, and so something to claim."""
        proven = [peer.id for peer in look.peers if self._is_dead(peer)]
        by_lease = time.monotonic() >= self._judges_at
        expired = by_lease and any(peer.expired for peer in look.peers)
        if not (proven or look.stranded or expired):
            return False
        lost = leases.take_over(self._pool, proven, by_lease=by_lease)
        for run in lost:
            self._log.warning(
                "run taken over",
                job=run.job,
                run=str(run.run_id),
                attempt=run.attempt,
                outcome=run.outcome,
                lost_by=run.worker,
            )
            self._pulse.ended(look.now, run.outcome, run.job)
        return bool(lost)

    def _settle(self, look: looks.Look) -> None:
        """Let every lease begin anew: another server is here, or its clock was set."""
        if not look.unsettled:
            self._log.warning("the database's clock jumped", seconds=round(self._clock.jumped, 1))
        leases.settle(self._pool)
        self._beat_at = -math.inf

    def _is_dead(self, peer: looks.Peer) -> bool:
        return peer.process.host == self._process.host is not None and is_dead(peer.process)

    def _pause(self, look: looks.Look) -> float:
        """Return the seconds until something may be due: a look, a run, a beat, a timeout."""
        monotonic = time.monotonic()
        pauses = [
            spread.until_poll(self._clock.now().timestamp(), self._turn, POLL_SECONDS),
            self._beat_at + self._slack - monotonic,
            *(a.deadline - monotonic for a in self._runner.attempts if a.deadline > monotonic),
        ]
        if self._runner.load < self._runner.slots:
            if look.limited:
                return _SOONEST
            if look.wake_at:
                pauses.append((look.wake_at - self._clock.now()).total_seconds())
        return max(min(pauses), _SOONEST)

    def _trouble(self, error: psycopg.Error) -> float:
        """Note that the database does not answer; return the seconds until the next try."""
        if self._failures in (0, 10, 100) or self._failures % 1000 == 0:
            reason = str(error).strip().split("\n")[0]
            self._log.warning("trouble with the database", reason=reason, tries=self._failures + 1)
        self._failures += 1
        self._beat_at = -math.inf  # first thing: the answer to a claim may have been lost
        self._place = None  # and this may be another server: look at all of it
        if time.monotonic() - self._beaten_at > self._lease * _TRUSTED:
            self._runner.stop("interrupted")
        if self._failures % 2:
            return 0.0  # perhaps the session alone was ended while we slept; the next one is new
        longest: float = min(0.1 * 2 ** min(self._failures // 2, 5), 2.0)
        return random.uniform(0.5, 1) * longest  # noqa: S311 - jitter, no secret

    def _drain(self) -> None:
        """End in order: tell the runs, write their ends, give the lease back."""
        self._runner.leave()
        said = False
        while self._id:
            try:
                if not said:
                    leases.leave(self._pool, self._id)
                    said = True
                if time.monotonic() >= self._beat_at and not self._beat(self._id):
                    break
                self._finish()
                if not self._runner.load and leases.resign(self._pool, self._id):
                    break
            except psycopg.Error as error:
                self._trouble(error)
            self._nudge.wait(0.1)
            self._nudge.clear()
        self._say_the_rest()
        self._log.info("left", unfinished=self._runner.load)

    def _say_the_rest(self) -> None:
        """Write what was counted last, if that can be; by now nobody waits for us."""
        if self._pulse.counted_at and self._pulse_id:
            try:
                self._write_pulse(self._pulse.counted_at)
            except psycopg.Error as error:
                self._log.warning("what was counted last is lost", reason=str(error).strip())

    def _report(self, ending: Ending, now: datetime, *, fenced: bool) -> None:
        """Count an end that is written, and log it."""
        outcome = "fenced" if fenced else ending.outcome
        seconds = (now - ending.started_at).total_seconds() if ending.started_at else 0.0
        self._pulse.ended(now, outcome, ending.job, seconds)
        well = outcome == "completed"
        if well and not ending.schedule:
            return
        say = self._log.info if well else self._log.warning
        fields = {"error": ending.error} if ending.error else {}
        say(
            "run ended",
            job=ending.job,
            run=str(ending.run_id),
            attempt=ending.attempt,
            outcome=outcome,
            **fields,
        )
