"""What must be true of the store, told once more in plain Python."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cluster import schedule as schedules
from cluster import spread
from cluster.ending import Ending, Lost, following
from cluster.job import Job
from cluster.process import Identity
from cluster.run import Claim
from cluster.store.looks import Ask
from tests.integration.builders import a_job, a_kind

BEGIN = datetime(2031, 3, 1, 12, tzinfo=UTC)
LEASE, LENT = 15.0, 6.0
DEATHS = 3
JOBS: dict[str, Job] = {
    job.name: job
    for job in (
        a_job(name="tick", schedule="@every 30s", at_once=False, spread=0.1, retry_jitter=0),
        a_job(
            name="tock",
            schedule="*/2 * * * *",
            spread=2,
            max_retries=1,
            priority=5,
            retry_jitter=0,
            catch_up="none",
        ),
        a_job(name="each", schedule="@every 10s", spread=0.5, retry_jitter=0, catch_up="all"),
        a_kind(name="work", retry_jitter=0),
        a_kind(name="few", max_running=2, max_retries=2, retry_jitter=0),
        a_kind(name="one", max_running=1, retry_delay=0, retry_jitter=0),
        a_kind(name="away", remote=True, retry_jitter=0),
        a_kind(name="away-few", remote=True, max_running=2, retry_jitter=0),
    )
}
_A_BIT = timedelta(microseconds=2)  # what rounding may do to an interval
LIMITED = [job.name for job in JOBS.values() if job.max_running]


@dataclass
class Lease:
    """A row of `worker`."""

    process: Identity | None
    until: datetime
    seconds: float
    leaving: bool = False

    @property
    def remote(self) -> bool:
        """Whether nobody can prove its death."""
        return self.process is None


@dataclass
class Waiting:
    """A row of `run`; it is under way if it has a token."""

    id: UUID
    job: str
    scheduled: bool
    due_at: datetime
    not_before: datetime
    priority: int = 0
    spread: float = 0.0
    start_by: datetime | None = None
    cancelled: bool = False
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    max_retries: int | None = None
    token: UUID | None = None
    fence: int | None = None
    worker: UUID | None = None
    started_at: datetime | None = None
    progress: float | None = None
    sequence: int = 0
    checkpoint: str | None = None

    def take(self, claim: Claim, worker: UUID) -> None:
        """Put it under way."""
        self.token, self.fence, self.worker = claim.token, claim.fence, worker
        self.attempt, self.started_at = claim.attempt, claim.started_at
        self.progress, self.sequence = None, 0

    def let_go(self) -> None:
        """Let it wait again."""
        self.token = self.fence = self.worker = self.started_at = self.progress = None

    def move(self, firing: datetime, *, begin_within: float | None) -> None:
        """Move a planned run to another moment."""
        self.due_at = self.not_before = firing
        self.start_by = None if begin_within is None else firing + timedelta(seconds=begin_within)
        self.cancelled = False


@dataclass(frozen=True)
class Past:
    """A row of `history`; what a task needs to be tried again stands in its last row.

    Attributes:
        run: None of a firing that never became a run.
    """

    run: UUID | None
    job: str
    attempt: int
    token: UUID | None
    fence: int | None
    due_at: datetime
    started_at: datetime | None
    finished_at: datetime
    outcome: str
    closing: bool = False
    priority: int | None = None
    max_retries: int | None = None
    failures: int | None = None


@dataclass
class Process:
    """A simulated worker process: what it believes, which may be out of date.

    Attributes:
        worker: its identity, if it believes that it has one.
        known: the attempts it knows of, by token, until their end is written.
        unwritten: ends that it has to write; `said`, those it wrote last.
        limited: jobs with a limit that its last look found due.
    """

    identity: Identity
    alive: bool = True
    leaving: bool = False
    worker: UUID | None = None
    known: dict[UUID, Claim] = field(default_factory=dict)
    unwritten: list[Ending] = field(default_factory=list)
    said: list[Ending] = field(default_factory=list)
    limited: list[str] = field(default_factory=list)

    def running(self) -> list[Claim]:
        """Return the attempts whose functions have not come to their end."""
        over = {ending.token for ending in self.unwritten}
        return [claim for token, claim in self.known.items() if token not in over]


class World:
    """Everything that is so at one moment."""

    jobs = JOBS

    def __init__(self, processes: Iterable[Process]) -> None:
        self.now = self.started = self.settled_with = self.settled_at = BEGIN
        self.first_at: datetime | None = None
        self.opens_at: datetime | None = None
        self.left_at: datetime | None = None
        self.paused: set[str] = set()
        self.schedules = {name: job.schedule for name, job in self.jobs.items()}
        self.leases: dict[UUID, Lease] = {}
        self.runs: dict[UUID, Waiting] = {}
        self.history: Counter[Past] = Counter()
        self.keys: dict[str, tuple[UUID, object]] = {}
        self.processes = list(processes)
        self.dead: set[Identity] = set()
        self.lent: dict[UUID, Claim] = {}
        self.fences: dict[object, int] = {}
        self.tokens: set[UUID] = set()

    def after(self, seconds: float) -> datetime:
        """Return the moment so many seconds from now."""
        return self.now + timedelta(seconds=seconds)

    def expired(self, lease: Lease) -> bool:
        """Whether a lease has run out; never sooner than one lease after it was settled."""
        since = self.settled_at + timedelta(seconds=lease.seconds)
        return self.settled_with == self.started and max(lease.until, since) < self.now

    def held(self, job: str) -> int:
        """Return how many runs of a job are under way."""
        return sum(run.job == job and run.token is not None for run in self.runs.values())

    def of(self, worker: UUID) -> list[Waiting]:
        """Return the runs that a worker holds."""
        return [r for r in self.runs.values() if r.worker == worker and r.token]

    def current(self, run: UUID, token: UUID | None) -> Waiting | None:
        """Return a run if the token is that of its attempt under way."""
        found = self.runs.get(run)
        return found if found and token and found.token == token else None

    def unwanted(self) -> list[Waiting]:
        """Return what waits and shall not start any more."""
        return [r for r in self.runs.values() if r.token is None and self._is_unwanted(r)]

    def _is_unwanted(self, run: Waiting) -> bool:
        return run.cancelled or (run.start_by is not None and run.start_by <= self.now)

    def opens(self, run: Waiting, ask: Ask, load: int) -> datetime:
        """Return when the spread rule lets a worker of that load claim a run."""
        opening = self.opens_at is not None and run.not_before < self.opens_at
        since = max(run.not_before, self.opens_at or run.not_before)
        return since + timedelta(
            seconds=spread.opens_after(load, ask.phase, run.spread, opening=opening)
        )

    def may_claim(self, run: Waiting, ask: Ask, load: int, *, surely: bool = False) -> bool:
        """Whether nothing but a limit keeps a worker from a run."""
        return (
            self.is_due(run, ask)
            and not self._is_unwanted(run)
            and self.opens(run, ask, load) <= self.now + (-_A_BIT if surely else _A_BIT)
        )

    def is_due(self, run: Waiting, ask: Ask) -> bool:
        """Whether it waits, for no later time, and for no other code than a worker's."""
        return (
            run.token is None
            and run.job in ask.jobs
            and run.job not in self.paused
            and max(run.not_before, self.opens_at or run.not_before) <= self.now
        )

    def room(self, job: str) -> float:
        """Return how many runs of a job may start."""
        limit = self.jobs[job].max_running
        return float("inf") if limit is None else limit - self.held(job)

    def claim(self, ask: Ask, claims: Sequence[Claim]) -> None:
        """Take over into the model what a worker has claimed, if it was allowed to."""
        lease = self.leases.get(ask.worker)
        assert not claims or (lease and lease.until > self.now), "claimed without a lease"
        assert len(claims) <= ask.free, "claimed more than there are slots"
        chosen = [(self.runs[claim.id], claim) for claim in claims]
        chosen.sort(key=lambda pair: (-pair[0].priority, pair[0].not_before, pair[0].id))
        load = ask.load
        for run, claim in chosen:
            assert self.may_claim(run, ask, load), f"claimed too soon: {run}"
            load += run.spread > 0
            limit = self.jobs[run.job].max_running
            assert limit is None or run.job in ask.limited, "claimed without the lock of a limit"
            assert limit is None or self.room(run.job) > 0, "claimed above max_running"
            assert claim.attempt == run.attempt + 1, "an attempt is counted at the claim"
            assert claim.started_at == self.now
            assert (claim.failures, claim.crashes) == (run.failures, run.crashes)
            assert (claim.job, claim.due_at) == (run.job, run.due_at)
            assert claim.checkpoint == run.checkpoint
            self._is_new(run, claim)
            run.take(claim, ask.worker)

    def _is_new(self, run: Waiting, claim: Claim) -> None:
        part = run.job if run.scheduled else run.id
        assert claim.token not in self.tokens, "a token came twice"
        assert claim.fence > self.fences.get(part, 0), "the fence did not grow"
        self.tokens.add(claim.token)
        self.fences[part] = claim.fence

    def left_over(self, ask: Ask, claims: Sequence[Claim]) -> list[Waiting]:
        """Return what a worker could claim besides what it has just claimed."""
        lease = self.leases.get(ask.worker)
        if lease is None or lease.until <= self.now or len(claims) >= ask.free:
            return []
        load = ask.load + sum(self.runs[claim.id].spread > 0 for claim in claims)
        left = [
            run
            for run in self.runs.values()
            if self.may_claim(run, ask, load, surely=True) and self.room(run.job) > 0
        ]
        # Tasks leave room for what is about to open, to whomever it will be open first.
        soon = [r for r in self.runs.values() if r.spread > 0 and self.is_due(r, ask)]
        if len(claims) + len(soon) < ask.free:
            return left
        return [run for run in left if run.spread > 0]

    def end(self, ending: Ending, firing_id: UUID | None) -> bool:
        """Write an end; False if it was too late.

        Args:
            ending: as it was said.
            firing_id: of the run that takes the place of one that a schedule made.
        """
        run = self.current(ending.run_id, ending.token)
        if run is None:
            self._refuse(ending)
            return False
        again = self._again(run, ending)
        last = again is None and not run.scheduled
        self.history[self._past(run, ending.outcome, last=last)] += 1
        if again is not None:
            run.let_go()
            run.start_by = None  # it has started
            run.not_before = self.after(again)
        else:
            del self.runs[run.id]
            if run.scheduled:
                assert ending.next_at
                self._lose(run, ending.lost)
                self._fire(run, ending.next_at, firing_id)
        return True

    def give_way(self, run: Waiting, firing_id: UUID | None) -> None:
        """End a firing that waits, and is not wanted any more."""
        schedule = schedules.parse(self.schedules[run.job] or "")
        follows = following(schedule, run.due_at, self.now, self.jobs[run.job].catch_up)
        outcome = "cancelled" if run.cancelled else "missed"
        self._lose(run, follows.lost)
        self.history[self._past(run, outcome, last=False)] += 1
        del self.runs[run.id]
        self._fire(run, follows.next_at, firing_id)

    def _lose(self, run: Waiting, lost: Sequence[Lost]) -> None:
        """Write the firings that passed; from the run's first start on it was in their way."""
        starts = [p.started_at for p in self.history if p.run == run.id and p.outcome != "fenced"]
        begun = min((s for s in [run.started_at, *starts] if s), default=None)
        for each in lost:
            outcome = "skipped" if begun and each.at >= begun else "missed"
            self.history[Past(None, run.job, 0, None, None, each.at, None, self.now, outcome)] += 1

    def _again(self, run: Waiting, ending: Ending) -> float | None:
        """Count what the attempt was, and return the seconds to the next one, as documented."""
        job = self.jobs[run.job]
        if ending.outcome == "interrupted":
            return 0.0
        if ending.outcome == "crashed":
            run.crashes += 1
            again = run.crashes < DEATHS
            return job.retry_delay * 2.0 ** (run.crashes - 1) if again else None
        if ending.outcome in ("failed", "timed_out"):
            run.failures += 1
            allowed = job.max_retries if run.max_retries is None else run.max_retries
            if run.failures < allowed:
                return job.retry_delay * 2.0 ** (run.failures - 1)
        return None

    def _fire(self, run: Waiting, at: datetime, firing_id: UUID | None) -> None:
        assert firing_id, "a recurring job has lost its run"
        assert firing_id not in {past.run for past in self.history}, "a firing has an old id"
        job = self.jobs[run.job]
        firing = Waiting(
            firing_id,
            run.job,
            scheduled=True,
            due_at=at,
            not_before=at,
            priority=job.priority,
            spread=job.spread,
        )
        firing.move(at, begin_within=job.start_within)
        firing.not_before = max(at, self.now)
        self.runs[firing_id] = firing

    def _refuse(self, ending: Ending) -> None:
        known = ("fenced", ending.outcome)
        if not any(p.token == ending.token and p.outcome in known for p in self.history):
            late = Past(
                ending.run_id,
                ending.job,
                ending.attempt,
                ending.token,
                ending.fence,
                ending.due_at,
                ending.started_at,
                self.now,
                "fenced",
            )
            self.history[late] += 1

    def _past(self, run: Waiting, outcome: str, *, last: bool) -> Past:
        return Past(
            run.id,
            run.job,
            run.attempt,
            run.token,
            run.fence,
            run.due_at,
            run.started_at,
            self.now,
            outcome,
            last,
            run.priority if last else None,
            run.max_retries if last else None,
            run.failures if last else None,
        )

    def close(self, run: Waiting, outcome: str) -> None:
        """End a task that waits."""
        del self.runs[run.id]
        self.history[self._past(run, outcome, last=True)] += 1

    def take_over(self, removed: Iterable[UUID]) -> dict[UUID, str]:
        """Free the runs of whoever has lost its lease, or had none; return their outcomes."""
        gone = {worker: self.leases.pop(worker) for worker in removed}
        found = {}
        for run in [r for r in self.runs.values() if r.token and r.worker not in self.leases]:
            lease = gone.get(run.worker) if run.worker else None
            leaving = lease is not None and lease.leaving
            found[run.id] = "interrupted" if leaving else "crashed"
            if not leaving:
                remote = lease is not None and lease.remote
                run.crashes = run.crashes + 1 if remote else min(run.crashes + 1, DEATHS - 1)
            last = run.crashes >= DEATHS
            self.history[self._past(run, found[run.id], last=last)] += 1
            if last:
                del self.runs[run.id]
            run.let_go()
            run.start_by = None
            run.not_before = self.now
        return found
