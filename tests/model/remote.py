"""What remote workers do: claim, say that they are alive, and report."""

from dataclasses import dataclass, replace
from uuid import UUID

from cluster import lending
from cluster.database import Pool
from cluster.ending import ending_of
from cluster.perform import Result
from cluster.run import Claim
from cluster.store.looks import Ask
from tests.integration.builders import catalogue_of
from tests.model.step import Seen, Step, pick
from tests.model.world import JOBS, LENT, Lease, World

_CATALOGUE = catalogue_of(*(job for job in JOBS.values() if not job.schedule))


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
            assert not exact or claims or not world.left_over(ask, claims)
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

        def call(pool: Pool) -> bool:
            try:
                lending.report(pool, _CATALOGUE, claim.id, claim.token, Result(self.outcome))
            except lending.StaleTokenError:
                return False
            return True

        def follow(world: World, heard: bool, seen: Seen, exact: bool) -> None:
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
                if not exact:
                    _adopt(world, claim, seen)
                assert heard == _said_before(world, claim, self.outcome)

        return Step(call, follow)


def _adopt(world: World, claim: Claim, seen: Seen) -> None:
    """Take a refusal as it stands: of two words at once the late one is recorded as fenced."""
    for past in seen.history:
        if past.token == claim.token and past.outcome == "fenced":
            world.history[past] = 1


def _said_before(world: World, claim: Claim, outcome: str) -> bool:
    ends = {past.outcome: past for past in world.history if past.token == claim.token}
    if "crashed" in ends and "fenced" not in ends:
        late = replace(ends["crashed"], outcome="fenced", finished_at=world.now, closing=False)
        late = replace(late, priority=None, max_retries=None, failures=None)
        world.history[late] += 1
    return (outcome in ends and outcome != "crashed") or (
        "cancelled" in ends and outcome != "completed"
    )
