"""What can happen in a cluster: each act is one call of the store, and what must come of it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID

import psycopg

from cluster import lending, spread
from cluster import schedule as schedules
from cluster.database import Pool
from cluster.ending import ending_of
from cluster.perform import Result
from cluster.process import Identity
from cluster.run import Claim
from cluster.store import jobs, leases, runs, tasks
from cluster.store.looks import Ask, Look
from tests.integration.builders import kinds_of
from tests.model.world import LEASE, LENT, Lease, Past, Process, Waiting, World

T = TypeVar("T")


class Seen:
    """The database after an act, looked at when somebody asks."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @cached_property
    def _found(self) -> list[list[tuple[Any, ...]]]:
        with self._connection.pipeline():
            cursors = [self._connection.execute(text) for text in (_RUNS, _LEASES, _HISTORY)]
            return [cursor.fetchall() for cursor in cursors]

    @cached_property
    def runs(self) -> dict[UUID, Waiting]:
        """The rows of `run`."""
        return {row[0]: Waiting(*row) for row in self._found[0]}

    @cached_property
    def leases(self) -> dict[UUID, tuple[datetime, bool, bool]]:
        """Until when, whether leaving, whether remote."""
        return {row[0]: row[1:] for row in self._found[1]}

    @cached_property
    def history(self) -> Counter[Past]:
        """The rows of `history`."""
        return Counter(Past(*row) for row in self._found[2])

    def firing(self, job: str) -> UUID | None:
        """Return the id of a job's run."""
        return next((r.id for r in self.runs.values() if r.scheduled and r.job == job), None)


_RUNS = """
    SELECT id, job, scheduled, due_at, not_before, priority, extract(epoch FROM spread)::float8,
        nullif(start_by, '-infinity'), start_by IS NOT DISTINCT FROM '-infinity', attempt, failures,
        crashes, max_retries, token, fence, worker_id, started_at, progress, sequence
    FROM run
    """
_LEASES = "SELECT id, lease_until, leaving, remote FROM worker"
_HISTORY = """
    SELECT run_id, job, attempt, token, fence, due_at, started_at, finished_at, outcome, closing,
        priority, max_retries, failures
    FROM history
    """


@dataclass(frozen=True)
class Step:
    """An act at work.

    Attributes:
        call: does it; what it returns goes to `follow`.
        follow: does the same to the model, and checks what was returned. Its last argument is
            whether nothing else happened at that moment, so that nothing was passed by.
        actor: the place of the process whose act it is.
        lost: whether that process goes on without the answer, so that it may act meanwhile.
        waits: whether it may wait for somebody else; a claim alone never does.
    """

    call: Callable[[Pool], Any]
    follow: Callable[[World, Any, Seen, bool], None]
    actor: int | None = None
    lost: bool = False
    waits: bool = True


def pick(among: Sequence[T], place: int) -> T | None:
    """Return one of them, if there are any."""
    return among[place % len(among)] if among else None


def _process(
    world: World, who: int, fits: Callable[[Process], object]
) -> tuple[int, Process] | tuple[None, None]:
    """Return one of the processes that can do this now, and its place."""
    found = pick([pair for pair in enumerate(world.processes) if fits(pair[1])], who)
    return found or (None, None)


def _registered(process: Process) -> object:
    return process.alive and process.worker


def _at_work(process: Process) -> object:
    return _registered(process) and not process.leaving


@dataclass(frozen=True)
class Join:
    """A process registers; one that is dead is replaced first."""

    who: int

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        place, process = _process(world, self.who, lambda p: not (_registered(p) or p.leaving))
        if process is None or place is None:
            return None
        identity = process.identity
        if not process.alive:
            identity = replace(identity, pid=identity.pid + 10)

        def call(pool: Pool) -> UUID:
            return leases.register(pool, f"{identity.host}:{identity.pid}", identity, [], LEASE)

        def follow(world: World, worker: UUID, _: Seen, __: bool) -> None:
            _open(world)
            world.leases[worker] = Lease(identity, world.after(LEASE), LEASE)
            if not process.alive:
                world.processes[place] = Process(identity)
            world.processes[place].worker = worker

        return Step(call, follow, place)


def _open(world: World) -> None:
    silent = not any(x.until > world.now and not x.remote for x in world.leases.values())
    if silent:
        world.first_at, world.opens_at = world.now, world.after(1)
    elif world.first_at and world.opens_at and world.now < world.opens_at:
        since = (world.now - world.first_at).total_seconds()
        world.opens_at = min(world.after(1), world.after(5 - since))


@dataclass(frozen=True)
class LookAround:
    """A worker writes the ends it has, and claims; perhaps the answer is lost."""

    who: int
    free: int
    lost: bool = False

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        place, process = _process(world, self.who, _at_work)
        if process is None or process.worker is None or place is None:
            return None
        endings = list(process.unwritten)
        ask = Ask(
            worker=process.worker,
            host=process.identity.host,
            jobs=[name for name, job in world.jobs.items() if not job.remote],
            load=len(process.known) - len(endings),
            free=self.free,
            phase=spread.phase(process.identity.pid),
            limited=process.limited,
        )

        def call(pool: Pool) -> tuple[list[runs.Ended], Look]:
            return runs.turn(pool, endings, ask)

        def follow(
            world: World, result: tuple[list[runs.Ended], Look], seen: Seen, exact: bool
        ) -> None:
            ended, look = result
            _end(world, endings, ended, seen)
            assert look.now == world.now
            if exact:
                _looked(world, ask, look)
            world.claim(ask, look.claims)
            if exact:
                _left(world, ask, look)
            mine = world.processes[place]
            if not self.lost:
                mine.limited = look.limited
                mine.known |= {claim.token: claim for claim in look.claims}
                _written(mine, endings)

        return Step(call, follow, place, lost=self.lost, waits=bool(endings))


def _written(process: Process, endings: Sequence[Any]) -> None:
    for ending in endings:
        process.known.pop(ending.token, None)
    process.said, process.unwritten = list(endings) or process.said, []


def _end(world: World, endings: Sequence[Any], ended: Sequence[runs.Ended], seen: Seen) -> None:
    for ending, each in zip(endings, ended, strict=True):
        in_time = world.end(ending, seen.firing(ending.job))
        assert each.fenced == (not in_time), "a token is honoured only while it is current"
        if in_time and ending.next_at:
            assert each.schedule == world.schedules[ending.job]


def _looked(world: World, ask: Ask, look: Look) -> None:
    """Check what a look tells beside its claims."""
    told = [r.token for r in world.of(ask.worker) if r.cancelled]
    assert sorted(look.cancelled) == sorted(t for t in told if t)
    assert look.unwanted == bool(world.unwanted())
    stranded = [r for r in world.runs.values() if r.token and r.worker not in world.leases]
    assert look.stranded == bool(stranded)
    near = {
        worker: world.expired(lease)
        for worker, lease in world.leases.items()
        if worker != ask.worker
        and (world.expired(lease) or (lease.process and lease.process.host == ask.host))
    }
    assert {peer.id: peer.expired for peer in look.peers} == near


def _left(world: World, ask: Ask, look: Look) -> None:
    """Check that nothing was left that could be claimed, and that its worker wakes for the rest."""
    for run in world.left_over(ask, len(look.claims)):
        if world.jobs[run.job].max_running and run.job not in ask.limited:
            assert run.job in look.limited, f"its limit has room, and nobody says so: {run}"
        else:
            assert look.claims, f"left although it was due: {run}"
            assert look.wake_at, f"left for ever: {run}"
            assert look.wake_at <= world.now, f"left too long: {run}"


@dataclass(frozen=True)
class Ends:
    """A function comes to its end; nobody has written that yet."""

    who: int
    which: int
    outcome: str

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        place, process = _process(world, self.who, lambda p: p.alive and p.running())
        if process is None or place is None:
            return None
        claim = process.running()[self.which % len(process.running())]
        ending = ending_of(claim, world.jobs[claim.job], Result(self.outcome), world.now)

        def follow(world: World, *_: object) -> None:
            world.processes[place].unwritten.append(ending)

        return Step(lambda _: None, follow, place)


@dataclass(frozen=True)
class Finish:
    """A worker writes ends without a claim; perhaps those once more that it has written."""

    who: int
    twice: bool
    lost: bool = False

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        place, process = _process(
            world, self.who, lambda p: p.alive and (p.said if self.twice else p.unwritten)
        )
        if process is None or place is None:
            return None
        endings = list(process.said if self.twice else process.unwritten)

        def follow(world: World, ended: list[runs.Ended], seen: Seen, _: bool) -> None:
            _end(world, endings, ended, seen)
            if not (self.twice or self.lost):
                _written(world.processes[place], endings)

        return Step(lambda pool: runs.finish(pool, endings), follow, place, lost=self.lost)


@dataclass(frozen=True)
class Beat:
    """A worker renews its lease, and says what it knows of."""

    who: int
    progress: float

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        place, process = _process(world, self.who, _registered)
        worker = process.worker if process else None
        if process is None or worker is None or place is None:
            return None
        held = dict.fromkeys(process.known, self.progress)

        def follow(world: World, alive: bool, *_: object) -> None:
            lease = world.leases.get(worker)
            assert alive == (lease is not None), "a beat says whether the lease is there"
            if lease:
                lease.until = world.after(lease.seconds)
            else:
                world.processes[place].worker = None
            for run in world.of(worker):
                if run.token in held:
                    run.progress = self.progress
                else:
                    run.let_go()
                    run.attempt -= 1

        return Step(lambda pool: leases.beat(pool, worker, list(held.items())), follow, place)


@dataclass(frozen=True)
class Leave:
    """A worker says that it has been told to end."""

    who: int

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        place, process = _process(world, self.who, _registered)
        worker = process.worker if process else None
        if process is None or worker is None or place is None:
            return None

        def follow(world: World, *_: object) -> None:
            world.processes[place].leaving = True
            if worker in world.leases:
                world.leases[worker].leaving = True

        return Step(lambda pool: leases.leave(pool, worker), follow, place)


@dataclass(frozen=True)
class Resign:
    """A worker that leaves gives its lease back, and its process ends."""

    who: int

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        place, process = _process(world, self.who, lambda p: _registered(p) and p.leaving)
        worker = process.worker if process else None
        if process is None or worker is None or place is None:
            return None

        def follow(world: World, gone: bool, *_: object) -> None:
            free = worker in world.leases and not world.of(worker)
            assert gone == free, "a lease goes when nothing is held under it"
            if gone:
                del world.leases[worker]
                world.processes[place].alive = False
                world.dead.add(process.identity)

        return Step(lambda pool: leases.resign(pool, worker), follow, place)


@dataclass(frozen=True)
class TakeOver:
    """Somebody of a host frees what the dead have held."""

    host: str

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        proven = [
            worker
            for worker, lease in world.leases.items()
            if lease.process and lease.process.host == self.host and lease.process in world.dead
        ]

        def follow(world: World, lost: list[leases.Lost], seen: Seen, exact: bool) -> None:
            dead = {w for w, x in world.leases.items() if w in proven or world.expired(x)}
            removed = set(world.leases) - set(seen.leases) if not exact else dead
            assert not exact or not dead & set(seen.leases), "a dead worker keeps its lease"
            freed = world.take_over(removed & dead)
            assert {each.run_id: each.outcome for each in lost} == freed

        return Step(lambda pool: leases.take_over(pool, proven), follow)


@dataclass(frozen=True)
class Drop:
    """Somebody ends what was cancelled, or is past its deadline, while it waits."""

    def step(self, _: World) -> Step | None:
        """See `Step`."""

        def follow(world: World, count: int, seen: Seen, exact: bool) -> None:
            gone = [run for run in world.unwanted() if exact or run.id not in seen.runs]
            assert count == len(gone)
            for run in gone:
                world.close(run, "cancelled" if run.cancelled else "missed")

        return Step(runs.drop, follow)


@dataclass(frozen=True)
class Change:
    """An operator pauses or resumes a job, or gives it a schedule or back its own."""

    job: str
    changes: dict[str, Any] = field(hash=False)

    def step(self, _: World) -> Step | None:
        """See `Step`."""

        def follow(world: World, known: bool, *_: object) -> None:
            assert known
            if "paused" in self.changes:
                change = world.paused.add if self.changes["paused"] else world.paused.discard
                change(self.job)
            if "schedule" in self.changes:
                own = world.jobs[self.job].schedule
                world.schedules[self.job] = self.changes["schedule"] or own
                _move(world, self.job)

        return Step(lambda pool: jobs.change(pool, self.job, self.changes), follow)


def _move(world: World, job: str, firing: datetime | None = None) -> None:
    run = next(r for r in world.runs.values() if r.scheduled and r.job == job)
    if run.token is None and run.attempt == 0:
        run.due_at = run.not_before = firing or _firing(world, job)


def _firing(world: World, job: str) -> datetime:
    schedule = world.schedules[job]
    assert schedule
    return schedules.parse(schedule).after(world.now)


@dataclass(frozen=True)
class Reschedule:
    """A worker moves a planned run, because the schedule has changed while the last one ran."""

    job: str

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        firing = _firing(world, self.job)

        def follow(world: World, *_: object) -> None:
            _move(world, self.job, firing)

        return Step(lambda pool: jobs.reschedule(pool, self.job, firing), follow)


@dataclass(frozen=True)
class RunNow:
    """An operator wants a job's run at once."""

    job: str

    def step(self, _: World) -> Step | None:
        """See `Step`."""

        def follow(world: World, found: UUID | None, *_: object) -> None:
            run = next(r for r in world.runs.values() if r.scheduled and r.job == self.job)
            assert found == (None if run.token else run.id)
            if not run.token:
                run.not_before = world.now
                run.due_at = world.now if run.attempt == 0 else run.due_at

        return Step(lambda pool: jobs.run_now(pool, self.job), follow)


@dataclass(frozen=True)
class Declare:
    """A worker that starts says what its code knows."""

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        declared = list(world.jobs.values())
        return Step(lambda pool: jobs.declare(pool, declared), lambda *_: None)


@dataclass(frozen=True)
class Enqueue:
    """Somebody asks for a task."""

    kind: str
    priority: int
    wait: float | None
    deadline: float | None
    max_retries: int | None
    key: str | None

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        at = None if self.wait is None else world.after(self.wait)
        by = None if self.deadline is None else world.after((self.wait or 0) + self.deadline)
        task = {
            "kind": self.kind,
            "priority": self.priority,
            "run_at": at,
            "deadline": by,
            "max_retries": self.max_retries,
            "idempotency_key": self.key,
        }
        given = {name: value for name, value in task.items() if value is not None}

        def call(pool: Pool) -> tasks.Made | None:
            try:
                return tasks.enqueue_many(pool, [given])[0]
            except tasks.KeyReusedError:
                return None

        def follow(world: World, made: tasks.Made | None, *_: object) -> None:
            if self.key in world.keys:
                known, same = world.keys[self.key]
                assert (made and (made.id, made.verdict)) == (
                    (known, "known") if same == given else None
                ), "a key makes one task"
                return
            assert made
            assert made.verdict == "new"
            if self.key:
                world.keys[self.key] = (made.id, given)
            world.runs[made.id] = Waiting(
                made.id,
                self.kind,
                scheduled=False,
                due_at=at or world.now,
                not_before=at or world.now,
                priority=self.priority,
                start_by=by,
                max_retries=self.max_retries,
            )

        return Step(call, follow)


def _tasks(world: World) -> list[UUID]:
    live = [run.id for run in world.runs.values() if not run.scheduled]
    return sorted({*live, *(past.run for past in world.history if past.closing)})


@dataclass(frozen=True)
class Cancel:
    """Somebody cancels a task, which may be over."""

    which: int

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        task = pick(_tasks(world), self.which)
        if task is None:
            return None

        def follow(world: World, found: bool, *_: object) -> None:
            run = world.runs.get(task)
            assert found == (run is not None)
            if run and run.token:
                run.cancelled = True
                run.start_by = None
            elif run:
                world.close(run, "cancelled")

        return Step(lambda pool: tasks.cancel(pool, task), follow)


@dataclass(frozen=True)
class Retry:
    """Somebody wants a task tried again that may have ended in an error."""

    which: int

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        task = pick(_tasks(world), self.which)
        if task is None:
            return None

        def follow(world: World, found: bool, *_: object) -> None:
            last = [past for past in world.history if past.run == task and past.closing]
            assert found == bool(last and last[0].outcome != "completed")
            if found:
                _reopen(world, last[0])

        return Step(lambda pool: tasks.retry(pool, task), follow)


def _reopen(world: World, past: Past) -> None:
    del world.history[past]
    world.history[replace(past, closing=False)] += 1
    world.runs[past.run] = Waiting(
        past.run,
        past.job,
        scheduled=False,
        due_at=world.now,
        not_before=world.now,
        priority=past.priority or 0,
        attempt=past.attempt,
        max_retries=past.max_retries,
    )


@dataclass(frozen=True)
class LendOut:
    """A remote worker claims; perhaps it never hears of it."""

    limit: int
    lost: bool

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        kinds = [name for name, job in world.jobs.items() if job.remote]

        def call(pool: Pool) -> list[Claim]:
            return lending.claim(pool, "away", kinds, self.limit, LENT)

        def follow(world: World, claims: list[Claim], seen: Seen, exact: bool) -> None:
            worker = next(
                (r.worker for r in seen.runs.values() for c in claims if r.token == c.token), None
            ) or UUID(int=0)
            ask = Ask(worker, None, kinds, 0, self.limit, 0.0, kinds)
            if claims or exact:
                world.leases[worker] = Lease(None, world.after(LENT), LENT)
            world.claim(ask, claims)
            assert not exact or claims or not world.left_over(ask, 0)
            if not claims:
                world.leases.pop(worker, None)
            if not self.lost:
                world.lent |= {claim.token: claim for claim in claims}

        return Step(call, follow, waits=False)


@dataclass(frozen=True)
class Word:
    """A remote worker says that it is alive."""

    which: int
    progress: float | None
    sequence: int | None

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        claim = pick(list(world.lent.values()), self.which)
        if claim is None:
            return None

        def call(pool: Pool) -> lending.Beat | None:
            try:
                return lending.beat(pool, claim.id, claim.token, self.progress, self.sequence)
            except lending.StaleTokenError:
                return None

        def follow(world: World, beat: lending.Beat | None, *_: object) -> None:
            run = world.current(claim.id, claim.token)
            lease = world.leases.get(run.worker) if run and run.worker else None
            assert (beat is None) == (lease is None), "a token is honoured only while it is current"
            if not (run and lease and beat):
                return
            late = self.sequence is not None and self.sequence <= run.sequence
            if not late:
                lease.until = world.after(lease.seconds)
                run.sequence = self.sequence or run.sequence
                run.progress = run.progress if self.progress is None else self.progress
            assert (beat.late, beat.cancelled) == (late, run.cancelled)
            assert beat.lease_until == lease.until

        return Step(call, follow)


@dataclass(frozen=True)
class Report:
    """A remote worker says how an attempt ended, perhaps once more, perhaps too late."""

    which: int
    outcome: str

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        claim = pick(list(world.lent.values()), self.which)
        if claim is None:
            return None
        catalogue = kinds_of(*(job for job in world.jobs.values() if not job.schedule))

        def call(pool: Pool) -> bool:
            try:
                lending.report(pool, catalogue, claim.id, claim.token, Result(self.outcome))
            except lending.StaleTokenError:
                return False
            return True

        def follow(world: World, heard: bool, *_: object) -> None:
            run = world.current(claim.id, claim.token)
            if run:
                assert heard, "a current token was refused"
                told = run.cancelled and self.outcome != "completed"
                result = Result("cancelled" if told else self.outcome)
                worker = run.worker
                world.end(ending_of(claim, world.jobs[claim.job], result, world.now), None)
                if worker and not world.of(worker):
                    world.leases.pop(worker, None)
            else:
                assert heard == _said_before(world, claim, self.outcome)

        return Step(call, follow)


def _said_before(world: World, claim: Claim, outcome: str) -> bool:
    ends = {past.outcome: past for past in world.history if past.token == claim.token}
    if "crashed" in ends and "fenced" not in ends:
        late = replace(ends["crashed"], outcome="fenced", finished_at=world.now, closing=False)
        late = replace(late, priority=None, max_retries=None, failures=None)
        world.history[late] += 1
    return (outcome in ends and outcome != "crashed") or (
        "cancelled" in ends and outcome != "completed"
    )


@dataclass(frozen=True)
class Dies:
    """A process is killed."""

    who: int

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        place, process = _process(world, self.who, lambda p: p.alive)
        if process is None or place is None:
            return None

        def follow(world: World, *_: object) -> None:
            world.processes[place].alive = False
            world.dead.add(process.identity)

        return Step(lambda _: None, follow, place)


def identities() -> list[Identity]:
    """Return the processes that there are at first."""
    return [Identity("here", pid, 7) for pid in (1, 2, 3)] + [Identity("there", 4, 7)]
