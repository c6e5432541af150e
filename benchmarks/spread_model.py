"""Workers, their one database, and the spread rule between them, event by event.

The rule itself is `cluster.spread`; here are processes that wake late, answers that take their
time, and a server with so many processors that serves one look after another. Nothing is measured,
and the same seed gives the same figures.
"""

import heapq
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field, replace

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
