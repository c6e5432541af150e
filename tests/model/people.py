"""What people ask for: jobs paused and changed, tasks made, cancelled and tried again."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from cluster import schedule as schedules
from cluster.database import Pool
from cluster.store import jobs, tasks
from tests.model.step import Step, pick
from tests.model.world import Past, Waiting, World


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
        within = world.jobs[job].start_within
        run.move(firing or _firing(world, job), begin_within=within)


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
                run.start_by, run.cancelled = None, False
                run.due_at = min(run.due_at, world.now)

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
    return sorted({*live, *(past.run for past in world.history if past.closing and past.run)})


@dataclass(frozen=True)
class Cancel:
    """Somebody cancels a task, which may be over, or perhaps a firing."""

    which: int
    firings: bool

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        task = pick(sorted(world.runs) if self.firings else _tasks(world), self.which)
        if task is None:
            return None

        def follow(world: World, found: bool, *_: object) -> None:
            run = world.runs.get(task)
            assert found == (run is not None)
            if run and (run.token or run.scheduled):
                run.cancelled = True
                run.start_by = None
            elif run:
                world.close(run, "cancelled")

        return Step(lambda pool: tasks.cancel(pool, task, firings=self.firings), follow)


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
    assert past.run
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
