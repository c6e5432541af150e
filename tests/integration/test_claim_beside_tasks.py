"""Claims of runs with a spread, beside tasks, which have none."""

from datetime import timedelta

import pytest

from cluster.database import Pool
from cluster.store import jobs, looks
from cluster.store.waits import reasons
from tests.integration.builders import (
    HERE,
    a_job,
    a_kind,
    a_worker,
    asked,
    look,
    query,
    tasks,
    value,
)

BOTH = ("tick", "work")


@pytest.fixture
def work(pool: Pool) -> Pool:
    """Return a pool on this test's own database, with the kind of tasks `work`."""
    jobs.declare(pool, [a_kind()])
    return pool


def test_a_firing_comes_before_older_tasks_of_its_priority(work: Pool) -> None:
    (urgent,), (old,) = asked(work, priority=1), asked(work)
    jobs.declare(work, [a_job(spread=0.001)])
    (firing,) = (row[0] for row in query(work, "SELECT id FROM run WHERE scheduled"))
    worker = a_worker(work, names=BOTH)
    places = {run: reason.place for run, reason in reasons(work, [old, firing, urgent]).items()}
    order = [look(work, worker, names=BOTH, free=1).claims[0].id for _ in range(3)]
    assert order == [urgent, firing, old]
    assert places == {urgent: 1, firing: 2, old: 3}


def test_a_more_urgent_task_takes_no_turn_of_a_firing(work: Pool) -> None:
    (urgent,) = asked(work, priority=1)
    asked(work, 5)
    jobs.declare(work, [a_job(spread=60)])
    claims = look(work, a_worker(work, names=BOTH), names=BOTH, free=2).claims
    assert [claim.job for claim in claims if claim.id != urgent] == ["tick"]
    assert len(claims) == 2


@pytest.mark.parametrize(("load", "free", "expected"), [(0, 10, (3, 7)), (2, 10, (1, 9))])
def test_only_runs_with_a_spread_count_as_load_for_the_next(
    work: Pool, load: int, free: int, expected: tuple[int, int]
) -> None:
    tasks(work, 10, ago=25, spread=10)
    asked(work, 20)
    worker = a_worker(work, names=BOTH)
    claims = look(work, worker, names=BOTH, load=load, free=free).claims
    assert tuple(sum(claim.job == name for claim in claims) for name in BOTH) == expected


@pytest.mark.parametrize("ago", [5, 15])
def test_runs_that_are_not_open_are_not_kept_from_others_beside_tasks(
    work: Pool, ago: float
) -> None:
    tasks(work, 10, ago=ago, spread=10)
    asked(work, 50)
    one, other = a_worker(work, names=BOTH), a_worker(work, names=BOTH)
    with work.connection() as connection, connection.transaction():
        mine = looks.read(looks.send(connection, looks.Ask(one, HERE.host, BOTH, 0, 10, 0.0)))
        its = look(work, other, names=BOTH)
    for found in (mine, its):
        assert len(found.claims) == 10
        assert sum(claim.job == "tick" for claim in found.claims) == ago // 10 + 1


def test_who_keeps_a_slot_for_a_firing_waits_for_it_and_not_for_a_task(work: Pool) -> None:
    """The tasks that are left need that slot: to look for them again at once brings nothing."""
    tasks(work, 1, ago=5, spread=10)
    asked(work, 5)
    worker = a_worker(work, names=BOTH)
    found = look(work, worker, names=BOTH, load=1, free=3)
    assert [claim.job for claim in found.claims] == ["work"] * 2
    assert found.wake_at is not None
    assert found.wake_at > found.now


def test_a_task_of_later_is_foreseen_beside_a_kept_slot(work: Pool) -> None:
    tasks(work, 1, ago=5, spread=60)
    asked(work, run_at=value(work, "SELECT now() + interval '9 s'"))
    found = look(work, a_worker(work, names=BOTH), names=BOTH, load=1, free=3)
    assert found.wake_at is not None
    assert found.wake_at - found.now < timedelta(seconds=10)


def test_who_is_full_of_tasks_knows_when_a_firing_opens(work: Pool) -> None:
    tasks(work, 1, ago=5, spread=10)
    asked(work, 5, priority=1)
    worker = a_worker(work, names=BOTH)
    found = look(work, worker, names=BOTH, free=2, phase=0.75)
    assert [claim.job for claim in found.claims] == ["work"] * 2
    due = value(work, "SELECT not_before FROM run WHERE job = 'tick'")
    assert found.wake_at == due + timedelta(seconds=7.5)


@pytest.mark.parametrize(("priority", "expected"), [(0, 7), (1, 10)])
def test_tasks_leave_slots_for_firings_of_their_priority_that_are_about_to_open(
    work: Pool, priority: int, expected: int
) -> None:
    for name in ("one", "two", "three"):
        jobs.declare(work, [a_job(name=name, spread=60)])
    asked(work, 20, priority=priority)
    names = ("one", "two", "three", "work")
    worker = a_worker(work, names=names)
    claims = look(work, worker, names=names, free=10, phase=0.5).claims
    assert [claim.job for claim in claims] == ["work"] * expected


def test_who_is_full_of_tasks_looks_for_no_more_of_them(work: Pool) -> None:
    asked(work, 5)
    found = look(work, a_worker(work, names=BOTH), names=BOTH, free=2)
    assert len(found.claims) == 2
    assert found.wake_at is None
