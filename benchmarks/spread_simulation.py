"""Simulate how evenly the spread rule shares, from 5 workers to 10,000, and what that costs.

    python benchmarks/spread_simulation.py start [--workers 5 10 …] [--jobs 0.5 2 20] [--starts 20]
    python benchmarks/spread_simulation.py firings [--workers …]
    python benchmarks/spread_simulation.py change [--workers …]

`start`: all copies start together, and jobs that are due wait for the opening. `firings`: firings
come one by one. `change`: a worker joins late, or dies. The rule itself is `cluster.spread`; here
are processes that wake late, answers that take their time, and a server with so many processors
that serves one look after another. Nothing is measured, and the same seed gives the same figures.
"""

import argparse
import heapq
import itertools
import random
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from cluster import spread
from cluster.worker import POLL_SECONDS

_SOONEST = 0.01
_LEASE = 15.0


@dataclass(frozen=True)
class Noise:
    """How late things are, in seconds.

    Attributes:
        latency: median of a round trip without the statement itself; its logarithm is normal.
        tail: the standard deviation of that logarithm.
        late: mean of the time by which a process wakes too late.
        stalls: the part of all wake-ups at which a process stands still, for `stall` at most.
    """

    latency: float
    tail: float
    late: float
    stalls: float
    stall: float

    def round_trip(self, chance: random.Random) -> float:
        """Return the time that one takes."""
        return self.latency * chance.lognormvariate(0, self.tail)

    def wake_up(self, chance: random.Random) -> float:
        """Return by how much a process wakes too late."""
        stall = chance.uniform(0, self.stall) if chance.random() < self.stalls else 0.0
        return chance.expovariate(1 / self.late) + stall


NOISES = {
    "quiet": Noise(0.002, 0.5, 0.0005, 0.0, 0.0),
    "noisy": Noise(0.005, 1.0, 0.005, 0.05, 0.25),
}


@dataclass(frozen=True)
class Setting:
    """What is simulated, beside the number of workers and jobs.

    Attributes:
        noise: see `Noise`.
        pids: `consecutive`, `random`, `hosts` (fifty on each) or `containers` (the same in each).
        apart: seconds within which the copies start.
        cores: processors of the server; None: as many as are wanted.
        cost: seconds that one of them needs for a look, or for a beat; None: as measured.
        join: seconds for which a worker that joins holds the one row that all of them want.
        width: seconds of a slot.
        part: of a slot for phases; None: the engine's.
        opening_slots: None: the engine's.
    """

    noise: Noise = NOISES["quiet"]
    pids: str = "consecutive"
    apart: float = 0.5
    cores: int | None = None
    cost: float | None = None
    join: float = 0.0
    width: float = 0.1
    part: float | None = None
    opening_slots: int | None = None

    def costing(self, workers: int, jobs: int) -> "Setting":
        """Return it with what a look costs among so many."""
        return replace(self, cost=measured(workers, jobs)) if self.cost is None else self

    def phase(self, pid: int) -> float:
        """Return the part of a slot that a worker waits for its equals."""
        return spread.phase(pid) if self.part is None else spread.turn(pid) * self.part

    def opens_after(self, load: int, phase: float, *, opening: bool) -> float:
        """Return how long a run must have been due; slots of another number by their width."""
        scale = (self.opening_slots or spread.OPENING_SLOTS) / spread.OPENING_SLOTS
        width = self.width * (scale if opening else 1)
        return spread.opens_after(load, phase, width, opening=opening)


def measured(workers: int, jobs: int) -> float:
    """Return the seconds of a look among so many; figures of `benchmarks/look_cost.py`."""
    return 0.4e-3 + 0.2e-6 * workers + 9e-6 * jobs


def pids_of(kind: str, count: int, chance: random.Random) -> list[int]:
    """Return the process ids of so many workers."""
    first = chance.randrange(300, 30_000)
    if kind == "random":
        return [chance.randrange(300, 4_000_000) for _ in range(count)]
    if kind == "hosts":
        hosts = [chance.randrange(300, 4_000_000) for _ in range(0, count, 50)]
        return [hosts[n // 50] + n % 50 for n in range(count)]
    if kind == "containers":
        return [7 + n % 5 for n in range(count)]
    return [first + n for n in range(count)]


@dataclass
class Worker:
    """A worker process."""

    pid: int
    phase: float
    turn: float
    load: int = 0
    alive: bool = True
    plan: int = 0  # the number of its newest wake-up; older ones are void
    beat_at: float = 0.0


@dataclass(order=True)
class _Event:
    at: float
    order: int
    kind: str = field(compare=False)
    worker: Worker = field(compare=False)
    plan: int = field(compare=False, default=0)
    back: float = field(compare=False, default=0.0)  # seconds that the answer takes


class Cluster:
    """Workers and their one database, event by event.

    Args:
        setting: see `Setting`.
        chance: seeded.
        lasts: seconds that a run lasts; None: for ever.
        every: seconds between two firings of a job.
    """

    def __init__(
        self,
        setting: Setting,
        chance: random.Random,
        *,
        lasts: float | None = None,
        every: float = 0.0,
    ) -> None:
        self._setting = setting
        self._cost = setting.cost or 0.0
        self._chance = chance
        self._lasts, self._every = lasts, every
        self._events: list[_Event] = []
        self._order = itertools.count()
        self._cores = [0.0] * (setting.cores or 0)
        self._joined = 0.0
        self._first_join: float | None = None
        self.now = 0.0
        self.opens_at = 0.0
        self.workers: list[Worker] = []
        self.waiting: list[float] = []
        self.claimed_at: list[float] = []
        self.statements: Counter[int] = Counter()  # by tenths of a second
        self.waited = 0.0  # the longest time that a statement waited for a processor

    def start(self, pid: int, at: float) -> Worker:
        """Let a worker start at a moment."""
        setting = self._setting
        worker = Worker(pid, setting.phase(pid), spread.turn(pid), beat_at=at + _LEASE / 3)
        self._push(at, "join", worker)
        return worker

    def fire(self, at: float) -> None:
        """Let a run become due."""
        heapq.heappush(self.waiting, at)

    def run(self, until: float) -> None:
        """Go on until a moment, or until nothing happens any more."""
        while self._events and self._events[0].at <= until:
            event = heapq.heappop(self._events)
            self.now = event.at
            getattr(self, f"_{event.kind}")(event)
        self.now = until

    def loads(self) -> list[int]:
        """Return the loads of who is alive."""
        return [worker.load for worker in self.workers if worker.alive]

    def kill(self, worker: Worker, found_after: float) -> None:
        """Let a worker die; its runs are due again once somebody has found that."""
        worker.alive = False
        self._push(self.now + found_after, "found", worker)

    def _push(self, at: float, kind: str, worker: Worker, back: float = 0.0) -> None:
        order = next(self._order)
        heapq.heappush(self._events, _Event(at, order, kind, worker, worker.plan, back))

    def _join(self, event: _Event) -> None:
        """Register, one after another, as `store.leases.register` says."""
        worker = event.worker
        at = self._joined = max(event.at, self._joined) + self._setting.join
        if self._first_join is None:
            self._first_join, self.opens_at = at, at + 1
        elif at < self.opens_at:
            self.opens_at = min(at + 1, self._first_join + 5)
        self.workers.append(worker)
        self._wake(worker, at)

    def _wake(self, worker: Worker, at: float) -> None:
        """Send a statement as soon as the process gets round to it."""
        worker.plan += 1
        late = self._setting.noise.wake_up(self._chance)
        self._push(at + late, "send", worker)

    def _send(self, event: _Event) -> None:
        worker = event.worker
        if not worker.alive or event.plan != worker.plan:
            return
        trip = self._setting.noise.round_trip(self._chance)
        self._push(event.at + trip / 2, "serve", worker, trip / 2)

    def _serve(self, event: _Event) -> None:
        """Look, once a processor is free; the claim is there from that moment on."""
        worker = event.worker
        if worker.beat_at <= event.at:
            worker.beat_at = event.at + _LEASE / 3
            self._processor(event.at)
        self._push(self._processor(event.at), "look", worker, event.back)

    def _processor(self, at: float) -> float:
        begin = max(at, self._cores[0]) if self._cores else at
        self.waited = max(self.waited, begin - at)
        self.statements[int(begin * 10)] += 1
        if self._cores:
            heapq.heapreplace(self._cores, begin + self._cost)
        return begin

    def _look(self, event: _Event) -> None:
        worker = event.worker
        while self.waiting and self._opens(worker) <= event.at:
            heapq.heappop(self.waiting)
            worker.load += 1
            self.claimed_at.append(event.at)
            if self._lasts is not None:
                self._push(event.at + self._lasts, "end", worker)
        answer = event.at + self._cost + event.back
        # What the worker takes for the time is when its statement began: it is never ahead.
        pause = spread.until_poll(event.at, worker.turn, POLL_SECONDS)
        if self.waiting:
            pause = min(pause, self._opens(worker) - event.at)
        self._wake(worker, answer + max(pause, _SOONEST))

    def _opens(self, worker: Worker) -> float:
        due = self.waiting[0]
        wait = self._setting.opens_after(worker.load, worker.phase, opening=due < self.opens_at)
        return max(due, self.opens_at) + wait

    def _end(self, event: _Event) -> None:
        """A run ends: its next firing is planned, and its worker looks at once."""
        worker = event.worker
        if worker.alive:
            worker.load -= 1
            self.fire(event.at + self._every - (self._lasts or 0))
            self._wake(worker, event.at)

    def _found(self, event: _Event) -> None:
        for _ in range(event.worker.load):
            self.fire(event.at)


@dataclass(frozen=True)
class Start:
    """What came of one start.

    Attributes:
        loads: sorted.
        took: seconds from the opening until everything was claimed.
        looks: statements from the first start until then.
        peak: statements in the busiest second.
        waited: seconds that a statement waited for a processor at most.
    """

    loads: list[int]
    took: float
    looks: int
    peak: int
    waited: float

    @property
    def apart(self) -> int:
        """By how many jobs the most and the least loaded differ."""
        return self.loads[-1] - self.loads[0]


def start(setting: Setting, workers: int, jobs: int, seed: int) -> Start:
    """Start a cluster whose jobs are all due; return what came of it."""
    chance = random.Random(f"{seed} {workers} {jobs}")
    cluster = Cluster(setting.costing(workers, jobs), chance)
    for pid in pids_of(setting.pids, workers, chance):
        cluster.start(pid, 1 + chance.uniform(0, setting.apart))
    for _ in range(jobs):
        cluster.fire(0.0)
    while cluster.waiting:
        cluster.run(cluster.now + 0.5)
    by_second = (
        sum(cluster.statements[n] for n in range(first, first + 10))
        for first in list(cluster.statements)
    )
    return Start(
        sorted(cluster.loads()),
        max(cluster.claimed_at) - cluster.opens_at,
        cluster.statements.total(),
        max(by_second),
        cluster.waited,
    )


def firings(setting: Setting, workers: int, jobs: int, seed: int, seconds: float = 120) -> str:
    """Let each job fire every two minutes and last one; return how even it stays, and the cost."""
    chance = random.Random(f"{seed} {workers} {jobs}")
    cluster = Cluster(setting.costing(workers, jobs), chance, lasts=60, every=120)
    for pid in pids_of(setting.pids, workers, chance):
        cluster.start(pid, chance.uniform(0, setting.apart))
    for _ in range(jobs):
        cluster.fire(10 + chance.uniform(0, 120))
    cluster.run(10 + 120)  # then as many end as begin
    before, claims = cluster.statements.total(), len(cluster.claimed_at)
    gaps = []
    for second in range(int(seconds)):
        cluster.run(130 + second)
        gaps.append(_gap(cluster))
    looks = (cluster.statements.total() - before) / seconds
    claims = len(cluster.claimed_at) - claims
    return (
        f"| {workers:,} | {jobs:,} | {claims / seconds:.1f} | {statistics.mean(gaps):.1f} "
        f"| {max(gaps)} | {looks:,.0f} | {1000 * cluster.waited:,.0f} ms |"
    )


def _gap(cluster: Cluster) -> int:
    return max(cluster.loads()) - min(cluster.loads())


def change(setting: Setting, workers: int, jobs: int, seed: int, what: str) -> tuple[int, float]:
    """Let a worker join late, or die; return the gap right after, and seconds until it is closed.

    A gap is closed as soon as two differ by two at most: one by chance, one by what just ends.
    """
    chance = random.Random(f"{seed} {workers} {jobs} {what}")
    cluster = Cluster(setting.costing(workers, jobs), chance, lasts=60, every=120)
    first, *pids = pids_of(setting.pids, workers + 1, chance)
    for pid in pids:
        cluster.start(pid, chance.uniform(0, setting.apart))
    for _ in range(jobs):
        cluster.fire(10 + chance.uniform(0, 120))
    cluster.run(190)
    if what == "join":
        cluster.start(first, 190.0)
        cluster.run(191)
    else:
        cluster.kill(cluster.workers[0], found_after=chance.uniform(0, POLL_SECONDS))
        cluster.run(190 + 2 * POLL_SECONDS)
    gap = _gap(cluster)
    while _gap(cluster) > 2 and cluster.now < 190 + 600:
        cluster.run(cluster.now + 0.5)
    return gap, cluster.now - 190


def _starts(options: argparse.Namespace, setting: Setting) -> Iterator[str]:
    yield (
        "| workers | jobs | even | differ by at most | all claimed after | statements a claim "
        "| statements in the busiest second | longest wait for a processor |"
    )
    yield "|--:|--:|--:|--:|--:|--:|--:|--:|"
    for workers, share in itertools.product(options.workers, options.jobs):
        jobs = max(int(workers * share), 1)
        found = [start(setting, workers, jobs, seed) for seed in range(options.starts)]
        even = sum(each.apart <= 1 for each in found)
        yield (
            f"| {workers:,} | {jobs:,} | {even} of {len(found)} "
            f"| {max(each.apart for each in found)} "
            f"| {statistics.mean(each.took for each in found):.2f} s "
            f"| {statistics.mean(each.looks for each in found) / jobs:.1f} "
            f"| {max(each.peak for each in found):,} "
            f"| {1000 * max(each.waited for each in found):,.0f} ms |"
        )


def _firings(options: argparse.Namespace, setting: Setting) -> Iterator[str]:
    yield (
        "| workers | jobs | firings/s | differ by (mean) | at most | statements/s "
        "| longest wait for a processor |"
    )
    yield "|--:|--:|--:|--:|--:|--:|--:|"
    for workers, share in itertools.product(options.workers, options.jobs):
        yield firings(setting, workers, max(int(workers * share), 1), seed=1)


def _changes(options: argparse.Namespace, setting: Setting) -> Iterator[str]:
    yield (
        "| workers | jobs | what | differ by then (mean) | at most | level after (mean) | at most |"
    )
    yield "|--:|--:|---|--:|--:|--:|--:|"
    for workers, share, what in itertools.product(options.workers, options.jobs, ("join", "die")):
        jobs = max(int(workers * share), 1)
        found = [change(setting, workers, jobs, seed, what) for seed in range(options.starts)]
        gaps, seconds = zip(*found, strict=True)
        yield (
            f"| {workers:,} | {jobs:,} | {what} | {statistics.mean(gaps):.1f} | {max(gaps)} "
            f"| {statistics.mean(seconds):.1f} s | {max(seconds):.1f} s |"
        )


def main() -> int:
    """Print a table of what was asked for; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    tables = {"start": _starts, "firings": _firings, "change": _changes}
    parser.add_argument("table", choices=tables)
    parser.add_argument("--workers", type=int, nargs="+", default=[5, 10, 50, 100])
    parser.add_argument("--jobs", type=float, nargs="+", default=[2.0], help="for each worker")
    parser.add_argument("--starts", type=int, default=20, help="of each size")
    parser.add_argument("--noise", choices=NOISES, default="quiet")
    parser.add_argument("--pids", default="consecutive", help="or random, hosts, containers")
    parser.add_argument("--apart", type=float, default=Setting.apart)
    parser.add_argument("--cores", type=int, default=None)
    parser.add_argument("--cost", type=float, default=None, help="seconds of a look")
    parser.add_argument("--join", type=float, default=Setting.join, help="seconds, one by one")
    parser.add_argument("--width", type=float, default=Setting.width)
    parser.add_argument("--part", type=float, default=None)
    parser.add_argument("--opening-slots", type=int, default=None)
    options = parser.parse_args()
    setting = Setting(
        NOISES[options.noise],
        options.pids,
        options.apart,
        options.cores,
        options.cost,
        options.join,
        options.width,
        options.part,
        options.opening_slots,
    )
    for line in tables[options.table](options, setting):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
