"""Limits: of a kind with `max_running`, never more at once in the whole cluster."""

import threading
from collections import Counter
from typing import Self

import pytest

from cluster.database import Pool
from cluster.ending import Ending
from cluster.job import Job
from cluster.store import jobs, leases, looks, runs
from tests.integration.builders import (
    HERE,
    a_kind,
    a_worker,
    asked,
    ended,
    execute,
    look,
    outcomes,
    query,
    taken,
    together,
    transaction,
    value,
)


def under_way(pool: Pool, kind: str = "work") -> int:
    """Return how many tasks of a kind are held."""
    held: int = value(pool, "SELECT count(*) FROM run WHERE job = %s AND token IS NOT NULL", kind)
    return held


def drain(pool: Pool, kinds: dict[str, Job], workers: int, free: int) -> None:
    """Let workers claim and finish at once until nothing of these kinds is left."""
    names = sorted(kinds)
    identities = [a_worker(pool, names=names, name=f"host:{n}") for n in range(workers)]
    left = "SELECT count(*) FROM run WHERE job = ANY (%s)"

    def work(number: int) -> None:
        endings: list[Ending] = []
        limited: list[str] = []
        while True:
            ask = looks.Ask(identities[number], HERE.host, names, 0, free, 0.0, limited)
            written, found = runs.turn(pool, endings, ask)
            assert not any(each.fenced for each in written)
            limited = found.limited
            endings = [ended(pool, claim, job=kinds[claim.job]) for claim in found.claims]
            if not endings and not value(pool, left, names):
                return

    together(workers, work)


class Sampler:
    """Looks again and again how many tasks of each kind are held; keeps the most it saw."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most: Counter[str] = Counter()
        self.samples = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        text = "SELECT job, count(*) FROM run WHERE token IS NOT NULL GROUP BY job"
        with self._pool.connection() as connection:
            while not self._done.is_set():
                self.samples += 1
                for job, count in connection.execute(text).fetchall():
                    self.most[job] = max(self.most[job], count)


@pytest.mark.parametrize(("limit", "free"), [(1, 5), (3, 2), (4, 10)])
def test_many_at_once_never_exceed_a_limit_and_do_everything(
    pool: Pool, limit: int, free: int
) -> None:
    kind = a_kind(max_running=limit)
    jobs.declare(pool, [kind])
    wanted = {str(task) for place in range(4) for task in asked(pool, 20, priority=place)}
    with Sampler(pool) as sampler:
        drain(pool, {"work": kind}, 6, free)
    assert sampler.samples > 1
    assert 1 <= sampler.most["work"] <= limit
    done = query(pool, "SELECT run_id::text, outcome FROM history")
    assert sorted(done) == sorted((task, "completed") for task in wanted)


def test_several_limits_hold_side_by_side(pool: Pool) -> None:
    kinds = {
        "one": a_kind(name="one", max_running=1),
        "two": a_kind(name="two", max_running=2),
        "free": a_kind(name="free"),
    }
    jobs.declare(pool, kinds.values())
    for name in kinds:
        asked(pool, 40, kind=name)
    with Sampler(pool) as sampler:
        drain(pool, kinds, 5, 6)
    assert sampler.most["one"] == 1
    assert 1 <= sampler.most["two"] <= 2
    assert [len(outcomes(pool, name)) for name in kinds] == [40, 40, 40]


def test_a_kind_without_a_limit_is_not_held_up_by_one_that_is_full(pool: Pool) -> None:
    jobs.declare(pool, [a_kind(max_running=1), a_kind(name="free")])
    asked(pool, 200, priority=100)
    asked(pool, 5, kind="free", priority=-100)
    worker = a_worker(pool, names=["work", "free"])
    found = taken(pool, "work", "free", worker=worker, free=6)
    assert Counter(claim.job for claim in found) == {"work": 1, "free": 5}
    more = look(pool, worker, names=["work", "free"])
    assert (more.claims, more.limited) == ([], [])


def test_a_limit_is_used_to_the_full_across_priorities(pool: Pool) -> None:
    jobs.declare(pool, [a_kind(max_running=5)])
    low = asked(pool, 10, priority=-1)
    high = asked(pool, 3, priority=1)
    assert [claim.id for claim in taken(pool)] == [*high, *low[:2]]
    assert taken(pool) == []


def test_a_look_without_the_lock_claims_nothing_of_a_limit_and_says_so(pool: Pool) -> None:
    jobs.declare(pool, [a_kind(max_running=5)])
    asked(pool, 2)
    worker = a_worker(pool, names=["work"])
    found = look(pool, worker, names=["work"])
    assert (found.claims, found.limited) == ([], ["work"])
    assert len(look(pool, worker, names=["work"], limited=found.limited).claims) == 2


def test_who_does_not_get_the_lock_waits_for_nobody_and_finds_it_again(pool: Pool) -> None:
    jobs.declare(pool, [a_kind(max_running=5)])
    asked(pool, 2)
    one, other = (a_worker(pool, names=["work"]) for _ in range(2))
    with transaction(pool) as (lent, _):
        assert len(look(lent, one, names=["work"], limited=["work"], free=1).claims) == 1
        found = look(pool, other, names=["work"], limited=["work"])
        assert (found.claims, found.limited) == ([], ["work"])
    assert len(look(pool, other, names=["work"], limited=["work"]).claims) == 1


def test_a_limit_that_is_lowered_lets_what_runs_end_and_holds_then(pool: Pool) -> None:
    jobs.declare(pool, [a_kind(max_running=5)])
    asked(pool, 10)
    worker = a_worker(pool, names=["work"])
    claims = taken(pool, worker=worker)
    assert len(claims) == 5
    kind = a_kind(max_running=2)
    jobs.declare(pool, [kind])
    found = []
    for claim in claims:
        runs.finish(pool, [ended(pool, claim, job=kind)])
        found.append((len(taken(pool, worker=worker)), under_way(pool)))
    assert found == [(0, 4), (0, 3), (0, 2), (1, 2), (1, 2)]


def test_a_limit_that_is_raised_or_lifted_holds_from_then_on(pool: Pool) -> None:
    jobs.declare(pool, [a_kind(max_running=1)])
    asked(pool, 20)
    worker = a_worker(pool, names=["work"])
    assert len(taken(pool, worker=worker)) == 1
    jobs.declare(pool, [a_kind(max_running=4)])
    assert len(taken(pool, worker=worker)) == 3
    jobs.declare(pool, [a_kind()])
    assert len(taken(pool, worker=worker, free=50, limited=False)) == 16


def test_a_task_that_waits_for_a_retry_takes_no_room(pool: Pool) -> None:
    kind = a_kind(max_running=1, retry_delay=3600)
    jobs.declare(pool, [kind])
    _, second = asked(pool, 2)
    (claim,) = taken(pool)
    runs.finish(pool, [ended(pool, claim, "failed", job=kind)])
    assert [claim.id for claim in taken(pool)] == [second]


def test_what_a_dead_worker_held_makes_room_again(pool: Pool) -> None:
    jobs.declare(pool, [a_kind(max_running=2)])
    asked(pool, 4)
    worker = a_worker(pool, names=["work"])
    assert len(taken(pool, worker=worker)) == 2
    assert taken(pool) == []
    leases.take_over(pool, [worker])
    assert len(taken(pool)) == 2
    assert under_way(pool) == 2


def test_a_limit_holds_while_workers_die(pool: Pool) -> None:
    kind = a_kind(max_running=3)
    jobs.declare(pool, [kind])
    asked(pool, 30)

    def live_and_die(number: int) -> None:
        for _ in range(5):
            worker = a_worker(pool, names=["work"], name=f"host:{number}")
            claims = taken(pool, worker=worker, free=2)
            if claims:
                runs.finish(pool, [ended(pool, claims[0], job=kind)])
            leases.take_over(pool, [worker])

    with Sampler(pool) as sampler:
        together(4, live_and_die)
    assert 1 <= sampler.most["work"] <= 3
    execute(pool, "UPDATE run SET not_before = now() - interval '1 s' WHERE token IS NULL")
    drain(pool, {"work": kind}, 2, 3)
    assert value(pool, "SELECT count(*) FROM run") == 0
    done = query(pool, "SELECT count(*) FROM history WHERE closing AND outcome = 'completed'")
    assert done == [(30,)]
