"""What workers do: register, look, claim, beat, finish, leave, die, and take over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from cluster import spread
from cluster.database import Pool
from cluster.ending import Ending, ending_of
from cluster.job import Catalogue
from cluster.perform import Result
from cluster.process import Identity
from cluster.run import Claim, Standing
from cluster.store import leases, runs
from cluster.store.guard import TokenGuard
from cluster.store.looks import Ask, Look
from tests.integration.builders import catalogue_of
from tests.model.step import Seen, Step, pick
from tests.model.world import JOBS, LEASE, LIMITED, Lease, Process, Waiting, World


def _catalogue() -> Catalogue:
    catalogue = catalogue_of(*(job for job in JOBS.values() if job.schedule))
    for kind in (job for job in JOBS.values() if not job.schedule):
        catalogue.task(**kind.model_dump(exclude={"function"}))(kind.function)
    return catalogue


_GUARD = TokenGuard(_catalogue())


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
    alone = not any(x.until > world.now and not x.remote for x in world.leases.values())
    ago = world.now - timedelta(seconds=10)
    quiet = any(at is None or at < ago for at in (world.left_at, world.opens_at))
    if alone and quiet:
        world.first_at, world.opens_at = world.now, world.after(1)
    elif world.first_at and world.opens_at and world.now < world.opens_at:
        since = (world.now - world.first_at).total_seconds()
        world.opens_at = min(world.after(1), world.after(5 - since))


@dataclass(frozen=True)
class LookAround:
    """A worker writes the ends it has, and claims; perhaps the answer is lost.

    One that is eager asks for the locks of all limits, not of those alone that it was told of.
    """

    who: int
    free: int
    lost: bool = False
    eager: bool = False

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
            load=sum(world.jobs[claim.job].spread > 0 for claim in process.known.values())
            - sum(ending.spread > 0 for ending in endings),
            free=self.free,
            phase=spread.phase(process.identity.pid),
            limited=LIMITED if self.eager else process.limited,
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


def _written(process: Process, endings: Sequence[Ending]) -> None:
    for ending in endings:
        if ending.token:
            process.known.pop(ending.token, None)
    process.said, process.unwritten = list(endings) or process.said, []


def _end(world: World, endings: Sequence[Ending], ended: Sequence[runs.Ended], seen: Seen) -> None:
    for ending, each in zip(endings, ended, strict=True):
        said = (ending.run_id, ending.token, ending.outcome)  # and the answer was lost, perhaps
        again = any((past.run, past.token, past.outcome) == said for past in world.history)
        in_time = world.end(ending, seen.firing(ending.job))
        late = not (in_time or again)
        assert each.fenced == late, "a token is honoured only while it is current"
        if in_time and ending.next_at:
            assert each.schedule == world.schedules[ending.job]


def _looked(world: World, ask: Ask, look: Look) -> None:
    """Check what a look tells beside its claims."""
    told = [r.token for r in world.of(ask.worker) if r.cancelled]
    assert sorted(look.cancelled) == sorted(t for t in told if t)
    assert look.unwanted == bool(world.unwanted())
    assert look.unsettled == (world.settled_with != world.started)
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
    for run in world.left_over(ask, look.claims):
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


def _standing(run: Waiting | None) -> Standing:
    if run is None:
        return Standing.LOST
    return Standing.CANCELLED if run.cancelled else Standing.CURRENT


@dataclass(frozen=True)
class Commit:
    """A function commits a transaction of its own, with a checkpoint or with the run's end."""

    who: int
    which: int
    finishes: bool
    lost: bool

    def step(self, world: World) -> Step | None:
        """See `Step`."""
        place, process = _process(world, self.who, lambda p: p.alive and p.running())
        if process is None or place is None:
            return None
        claim = process.running()[self.which % len(process.running())]

        def follow(world: World, standing: Standing, seen: Seen, _: bool) -> None:
            run = world.current(claim.id, claim.token)
            assert standing is _standing(run), "only a current token commits"
            if run is None or standing is not Standing.CURRENT:
                return
            if not self.finishes:
                run.checkpoint = "7"
                return
            now = claim._replace(schedule=world.schedules[claim.job])
            ending = ending_of(now, JOBS[claim.job], Result("completed"), world.now)
            world.end(ending, seen.firing(claim.job))
            if not self.lost:
                world.processes[place].known.pop(claim.token)

        return Step(lambda pool: self._commit(pool, claim), follow)

    def _commit(self, pool: Pool, claim: Claim) -> Standing:
        with pool.connection() as connection, connection.transaction():
            standing = _GUARD.hold(connection, claim)
            if standing is Standing.CURRENT and self.finishes:
                _GUARD.finish(connection, claim, None)
            elif standing is Standing.CURRENT:
                _GUARD.keep(connection, claim, "7")
        return standing


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
                world.left_at = world.now
                world.processes[place].alive = False
                world.dead.add(process.identity)

        return Step(lambda pool: leases.resign(pool, worker), follow, place)


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


@dataclass(frozen=True)
class Settle:
    """Somebody has seen that the server is another one, or in another life."""

    def step(self, _: World) -> Step | None:
        """See `Step`."""

        def follow(world: World, *_: object) -> None:
            world.settled_with, world.settled_at = world.started, world.now
            for lease in world.leases.values():
                lease.until = min(lease.until, world.after(lease.seconds))

        return Step(leases.settle, follow)


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
                if run.scheduled:
                    world.give_way(run, seen.firing(run.job))
                else:
                    world.close(run, "cancelled" if run.cancelled else "missed")

        return Step(runs.drop, follow)


def identities() -> list[Identity]:
    """Return the processes that there are at first."""
    return [Identity("here", pid, 7) for pid in (1, 2, 3)] + [Identity("there", 4, 7)]
