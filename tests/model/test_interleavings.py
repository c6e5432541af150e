"""Interleavings: whatever happens in whatever order, the store does what the model says.

Many simulated workers share one database, whose clock the test moves. After each act everything
that the database holds is compared with a model in plain Python. Two acts at once are right if one
of their two orders explains what came of them.

    pytest tests/model --hypothesis-profile=thorough --timeout 0    # thousands of them
"""

import copy
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from cluster.store import checks, jobs
from tests.eventually import eventually
from tests.model import people, remote, workers
from tests.model.clock import Session, prepare
from tests.model.step import Seen, Step
from tests.model.world import BEGIN, JOBS, Process, World

NAMES = [job.name for job in JOBS.values()]
KINDS = [job.name for job in JOBS.values() if not job.schedule]
TIMED = [job.name for job in JOBS.values() if job.schedule]

places = st.integers(0, 7)
pauses = st.sampled_from([0, 0, 0, 6, 16])
fractions = st.sampled_from([0.25, 0.5, 0.75])
outcomes = st.sampled_from(
    ["completed", "failed", "failed", "crashed", "timed_out", "cancelled", "interrupted"]
)
pausing = st.fixed_dictionaries({"paused": st.sampled_from([True, False, False])})
scheduling = st.fixed_dictionaries({"schedule": st.sampled_from(["@every 7s", None])})
lost = st.sampled_from([False, False, False, True])
asking = st.builds(
    people.Enqueue,
    kind=st.sampled_from(KINDS),
    priority=st.sampled_from([0, 0, 0, 3]),
    wait=st.sampled_from([None, None, 0.5, 20.0]),
    deadline=st.sampled_from([None, None, None, 0.5, 16.0]),
    max_retries=st.sampled_from([None, None, 0, 1]),
    key=st.sampled_from([None, None, None, "a", "b"]),
)
looking = st.builds(workers.LookAround, places, st.integers(1, 4), lost, eager=st.booleans())
lending = st.builds(remote.LendOut, st.integers(1, 3), lost)
taking_over = st.builds(workers.TakeOver, st.sampled_from(["here", "here", "there"]))
claiming = st.one_of(
    st.builds(workers.LookAround, places, st.integers(1, 3), lost, eager=st.just(value=True)),
    lending,
)
finishing = st.builds(workers.Finish, places, st.booleans(), lost)
committing = st.builds(workers.Commit, places, places, st.booleans(), lost)
cancelling = st.builds(people.Cancel, places, st.booleans())
crossing_acts = [
    *[looking] * 4,
    *[taking_over] * 3,
    *[finishing] * 2,
    *[lending] * 2,
    *[st.builds(remote.Report, places, outcomes)] * 2,
    *[cancelling] * 2,
    *[committing] * 2,
    st.builds(workers.Beat, places, fractions),
    st.builds(people.RunNow, st.sampled_from(TIMED)),
    st.builds(people.Change, st.sampled_from(TIMED), scheduling),
    st.builds(people.Change, st.sampled_from(NAMES), pausing),
    st.builds(people.Reschedule, st.sampled_from(TIMED)),
    st.builds(remote.Word, places, st.none() | fractions, st.none() | st.integers(1, 4)),
    st.builds(workers.Drop),
    st.builds(workers.Settle),
    st.builds(people.Retry, places),
    st.builds(workers.Join, places),
    st.builds(workers.Leave, places),
    st.builds(workers.Resign, places),
    asking,
]
all_acts = [
    *crossing_acts,
    *[st.builds(workers.Ends, places, places, outcomes)] * 4,
    *[asking] * 2,
    st.builds(workers.Join, places),
    st.builds(workers.Dies, places),
    st.builds(people.Declare),
]
anything = st.sampled_from(all_acts).flatmap(lambda act: act)
crossing = st.sampled_from(crossing_acts).flatmap(lambda act: act)

pairs = st.one_of(
    st.tuples(crossing, crossing),
    st.tuples(looking | lending, looking | lending),
    st.tuples(looking | lending, taking_over | cancelling),
    st.tuples(finishing | committing, finishing | committing | taking_over),
    st.tuples(taking_over, looking | finishing | committing),
)


class Machine(RuleBasedStateMachine):
    """A cluster in a database, and the model beside it."""

    first: Session
    second: Session
    watcher: Session
    steps: Counter[str]

    @initialize(
        together=st.integers(1, 4),
        work=st.lists(asking, max_size=6),
        paused=st.sets(st.sampled_from(NAMES), max_size=2),
    )
    def begin(self, together: int, work: list[people.Enqueue], paused: set[str]) -> None:
        """Empty the database; let some workers start, and leave them some work."""
        self.world = World(map(Process, workers.identities()))
        self.watcher.at(BEGIN, BEGIN)
        for table in ("run", "worker", "history", "job", "task_key"):
            self.watcher.raw.execute(f"DELETE FROM {table}")
        self.watcher.raw.execute("UPDATE server SET started_at = %s, since = %s", (BEGIN, BEGIN))
        self.watcher.raw.execute(
            "UPDATE opening SET first_at = '-infinity', opens_at = '-infinity',"
            " left_at = '-infinity'"
        )
        self.watcher.raw.execute("SELECT setval('faked_uuid', 1), setval('fence', 1)")
        jobs.declare(self._second(), JOBS.values())
        self.world.runs = self._seen().runs
        for who in range(together):
            self.do(workers.Join(who))
        for job in sorted(paused):
            self.do(people.Change(job, {"paused": True}))
        for task in work:
            self.do(task)
        self.time_passes(2, restarts=False)

    @rule(act=anything)
    def do(self, act: Any) -> None:
        """Let one thing happen."""
        if self._done(act):
            self._check(self.world, self._seen())

    @rule(act=anything)
    def do_more(self, act: Any) -> None:
        """Let one thing happen: it is the most usual thing."""
        self.do(act)

    def _done(self, act: Any) -> bool:
        step = act.step(self.world)
        if step is None:
            return False
        result = step.call(self._second())
        step.follow(self.world, result, self._seen(), True)
        self.steps[type(act).__name__] += 1
        return True

    @rule(
        pair=pairs,
        pause=pauses,
        dies=st.sampled_from([False, False, True]),
        commits=st.sampled_from([True, True, True, False]),
        crowd=st.none() | st.sampled_from(KINDS),
    )
    def do_at_once(
        self,
        pair: tuple[Any, Any],
        pause: float,
        dies: bool,
        commits: bool,
        crowd: str | None,
    ) -> None:
        """Hold one thing open in a transaction while another happens; then commit, or not.

        The process of the first one may die before it has an answer.
        """
        for priority in (0, 3, 0) if crowd else ():
            self._done(people.Enqueue(crowd or "", priority, None, None, None, None))
        first = pair[0].step(self.world)
        if first and dies:
            self._kill(first.actor)
        second = pair[1].step(self.world)
        if not (first and second) or not self._may_cross(first, second):
            return
        before = self.world.now
        results = self._both(first, second, pause, commits=commits)
        after = self.world.now
        seen = self._seen()
        mine, theirs = (before, first, results[0]), (after, second, results[1])
        orders = [[mine, theirs], [theirs, mine]] if commits else [[theirs]]
        doubts = []
        for order in orders:
            world = copy.deepcopy(self.world)
            try:
                for world.now, step, result in order:
                    step.follow(world, result, seen, False)
                world.now = after
                self._check(world, seen, progress=False)
            except (AssertionError, KeyError) as doubt:
                doubts.append(doubt)
            else:
                self.world = world
                self.steps["at once"] += 1
                return
        raise AssertionError(f"no order explains it: {doubts}") from doubts[0]

    @rule(pair=st.tuples(claiming, claiming), kind=st.sampled_from(KINDS))
    def two_claim_at_once(self, pair: tuple[Any, Any], kind: str) -> None:
        """Let two claim of one kind, perhaps a limited one."""
        self.do_at_once(pair, 0, dies=False, commits=True, crowd=kind)

    @rule(pair=st.tuples(claiming | finishing | committing, taking_over), pause=pauses)
    def one_dies_at_work(self, pair: tuple[Any, Any], pause: float) -> None:
        """Let a worker die, or be silent for too long, while its statement is under way."""
        self.do_at_once(pair, pause, dies=pause == 0, commits=True, crowd="work")

    @rule(deaths=st.integers(1, 4), which=places)
    def one_after_another_dies(self, deaths: int, which: int) -> None:
        """Let a run be in the hands of several workers that die."""
        self._done(people.Enqueue("work", 3, None, None, None, None))
        for _ in range(deaths):
            self._done(workers.Join(which))
            self.world.now += timedelta(seconds=6)
            self._done(workers.LookAround(0, 4))
            self._done(workers.Dies(0))
            for host in ("here", "there"):
                self.do(workers.TakeOver(host))

    def _may_cross(self, first: Step, second: Step) -> bool:
        """Whether a process may do the second thing before it has an answer to the first.

        One does that only with an answer that is lost.
        """
        return first.actor is None or first.actor != second.actor or first.lost

    def _kill(self, place: int | None) -> None:
        if place is not None:
            self.world.processes[place].alive = False
            self.world.dead.add(self.world.processes[place].identity)

    def _both(self, one: Step, other: Step, pause: float, *, commits: bool) -> tuple[Any, Any]:
        lent, connection = self.first.at(self.world.now, self.world.started), self.first.raw
        with ThreadPoolExecutor(1) as executor:
            with connection.transaction(force_rollback=not commits):
                result = one.call(lent)
                self.world.now += timedelta(seconds=pause)
                future = executor.submit(other.call, self._second())
                eventually(lambda: future.done() or self._is_blocked(), every=0.0005)
                assert other.waits or future.done(), "a claim waits for nobody"
            return result, future.result(timeout=60)

    def _is_blocked(self) -> bool:
        pids = (self.first.raw.info.backend_pid, self.second.raw.info.backend_pid)
        row = self.watcher.raw.execute("SELECT %s = ANY (pg_blocking_pids(%s))", pids).fetchone()
        return bool(row and row[0])

    @rule(
        seconds=st.sampled_from([0.01, 0.05, 0.2, 1, 2, 5, 14, 16, 31, 61]),
        restarts=st.sampled_from([False] * 7 + [True]),
    )
    def time_passes(self, seconds: float, restarts: bool) -> None:
        """Move the clock; perhaps the server restarts at that moment."""
        self.world.now += timedelta(seconds=seconds)
        if restarts:
            self.world.started = self.world.now

    @rule(seconds=st.sampled_from([0.01, 0.2, 2, 7]), outcome=outcomes, which=places)
    def all_go_on(self, seconds: float, outcome: str, which: int) -> None:
        """Move the clock, while everybody renews its lease, works and looks."""
        self.world.now += timedelta(seconds=seconds)
        if self.world.settled_with != self.world.started:
            self._done(workers.Settle())
        for who in range(len(self.world.processes)):
            self._done(workers.Beat(who, 0.5))
            self._done(workers.LookAround(who, 2))
        self._done(workers.Ends(which, which, outcome))
        self._done(workers.Drop())
        self._check(self.world, self._seen())

    def teardown(self) -> None:
        """Ask for contradictions once more, in the way that other tests do."""
        if hasattr(self, "world"):
            self.steps.update(past.outcome for past in self.world.history)
            self._second()
            for name, found in checks.contradictions(self.second.raw):
                assert name not in checks.INVARIANTS or not found, name

    def _second(self) -> Any:
        return self.second.at(self.world.now, self.world.started)

    def _seen(self) -> Seen:
        return Seen(self.watcher.raw)

    def _check(self, world: World, seen: Seen, *, progress: bool = True) -> None:
        """Compare everything."""
        for run in world.runs.values():
            if not progress and run.id in seen.runs:
                run.progress = seen.runs[run.id].progress  # a beat may leave it to the next one
        assert seen.opens_at == world.opens_at
        assert seen.runs == world.runs
        assert seen.history == world.history, "history is append-only, and says what happened"
        assert seen.leases == {
            worker: (lease.until, lease.leaving, lease.remote)
            for worker, lease in world.leases.items()
        }
        for job in JOBS.values():
            assert world.room(job.name) >= 0, "more at once than max_running"


@pytest.fixture
def machine(empty_url: str) -> Iterator[type[Machine]]:
    """The machine over a database with the faked clock."""
    prepare(empty_url, BEGIN)
    sessions = [Session(empty_url) for _ in range(3)]

    class Here(Machine):
        first, second, watcher = sessions

    Here.steps = Counter()
    yield Here
    for session in sessions:
        session.close()


def test_every_interleaving_keeps_the_promises(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=settings().max_examples // 4,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert machine.steps["at once"] > 20
