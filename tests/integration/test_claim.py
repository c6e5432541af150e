"""The claim: each run to one worker, no sooner than the spread rule says, and nothing else."""

import itertools
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cluster import spread
from cluster.database import Pool
from cluster.process import Identity
from cluster.run import Claim
from cluster.store import jobs, looks, runs
from tests.integration.builders import (
    HERE,
    NOWHERE,
    a_job,
    a_worker,
    ended,
    execute,
    expire,
    look,
    query,
    tasks,
    together,
    transaction,
    value,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    load=st.integers(0, 20),
    phase=st.floats(0, 0.999),
    age=st.floats(0, 30),
    every=st.floats(0, 5),
    opening=st.booleans(),
)
def test_the_statement_follows_the_spread_rule(
    pool: Pool, load: int, phase: float, age: float, every: float, opening: bool
) -> None:
    execute(pool, "DELETE FROM run")
    execute(pool, "DELETE FROM worker")
    worker = a_worker(pool)
    run = tasks(pool, 1, ago=age, spread=every)[0]
    since = value(pool, "SELECT not_before FROM run WHERE id = %s", run)
    if opening:
        since += timedelta(seconds=0.5)
    execute(pool, "UPDATE opening SET opens_at = %s", since)
    found = look(pool, worker, load=load, phase=phase)
    opens = since + timedelta(seconds=spread.opens_after(load, phase, every, opening=opening))
    assume(abs(found.now - opens) > timedelta(milliseconds=1))
    assert bool(found.claims) == (opens < found.now)
    if not found.claims:
        assert found.wake_at is not None
        assert abs(found.wake_at - opens) < timedelta(milliseconds=1)


@pytest.mark.parametrize(("load", "free", "expected"), [(0, 10, 3), (2, 10, 1), (0, 2, 2)])
def test_each_run_of_a_batch_counts_as_load_for_the_next(
    pool: Pool, load: int, free: int, expected: int
) -> None:
    tasks(pool, 10, ago=25, spread=10)
    assert len(look(pool, a_worker(pool), load=load, free=free).claims) == expected


def test_a_worker_alone_takes_all_when_time_has_passed(pool: Pool) -> None:
    tasks(pool, 10, ago=100, spread=0.1)
    assert len(look(pool, a_worker(pool)).claims) == 10


@pytest.mark.parametrize(("ago", "free"), [(5, 10), (15, 10), (1000, 2)])
def test_runs_that_are_not_open_to_a_worker_are_not_kept_from_others(
    pool: Pool, ago: float, free: int
) -> None:
    """While one waits for its commit, which may take long, another finds the rest."""
    tasks(pool, 10, ago=ago, spread=10)
    one, other = a_worker(pool), a_worker(pool)
    with pool.connection() as connection, connection.transaction():
        ask = looks.Ask(one, HERE.host, ["tick"], 0, free, 0.0)
        mine = looks.read(looks.send(connection, ask))
        its = look(pool, other, free=free)
    assert len(mine.claims) == len(its.claims) == min(ago // 10 + 1, free)


def test_no_run_goes_to_two_of_many_at_once(pool: Pool) -> None:
    wanted = set(tasks(pool, 200))
    workers = [a_worker(pool, name=f"host:{number}") for number in range(8)]

    def drain(number: int) -> list[Claim]:
        found: list[Claim] = []
        while claims := look(pool, workers[number], free=3).claims:
            found += claims
        return found

    claims = list(itertools.chain(*together(8, drain)))
    assert len(claims) == 200
    assert {claim.id for claim in claims} == wanted


def test_an_attempt_has_a_token_and_a_fence_of_its_own(pool: Pool) -> None:
    tasks(pool, 50)
    worker = a_worker(pool)
    claims = look(pool, worker, free=50).claims
    assert len({claim.token for claim in claims}) == len({claim.fence for claim in claims}) == 50


def test_the_fence_grows_with_each_attempt_of_a_run(pool: Pool) -> None:
    tasks(pool, 1)
    worker = a_worker(pool)
    seen = []
    for attempt in range(1, 4):
        claim = look(pool, worker).claims[0]
        assert claim.attempt == attempt
        seen.append((claim.fence, claim.token))
        runs.finish(pool, [ended(pool, claim, "interrupted")])
    assert seen == sorted(seen, key=lambda pair: pair[0])
    assert len(set(seen)) == 3


def test_a_claim_says_who_holds_the_run_since_when(pool: Pool) -> None:
    run = tasks(pool, 1)[0]
    worker = a_worker(pool, name="host:7")
    claim = look(pool, worker).claims[0]
    row = query(pool, "SELECT worker_id, worker, token, fence, started_at, attempt FROM run")[0]
    assert row == (worker, "host:7", claim.token, claim.fence, claim.started_at, 1)
    assert claim.id == run


def test_nothing_starts_before_it_is_due(pool: Pool) -> None:
    tasks(pool, 1, ago=-3600)
    found = look(pool, a_worker(pool), phase=0.5)
    assert found.claims == []
    assert found.wake_at == value(pool, "SELECT not_before FROM run")


def test_a_wake_up_counts_what_was_claimed_just_now(pool: Pool) -> None:
    tasks(pool, 3, ago=15, spread=10)
    found = look(pool, a_worker(pool), phase=0.25)
    assert len(found.claims) == 2
    due = value(pool, "SELECT not_before FROM run WHERE token IS NULL")
    assert found.wake_at == due + timedelta(seconds=22.5)


def test_the_earliest_of_what_waits_wakes(pool: Pool) -> None:
    for ago in (-300, -100, -200):
        tasks(pool, 1, ago=ago)
    found = look(pool, a_worker(pool))
    assert found.wake_at == value(pool, "SELECT min(not_before) FROM run")


def test_without_anything_waiting_there_is_no_wake_up(pool: Pool) -> None:
    assert look(pool, a_worker(pool)).wake_at is None


def test_nothing_starts_before_the_opening(pool: Pool) -> None:
    tasks(pool, 1, spread=1)
    worker = a_worker(pool)
    execute(pool, "UPDATE opening SET opens_at = now() + interval '1 hour'")
    found = look(pool, worker, load=2, phase=0.5)
    assert found.claims == []
    opening = value(pool, "SELECT opens_at FROM opening")
    assert found.wake_at == opening + timedelta(seconds=spread.OPENING_SLOTS * 2.5)


def test_the_spread_counts_from_the_opening(pool: Pool) -> None:
    tasks(pool, 1, ago=1000, spread=10)
    worker = a_worker(pool)
    execute(pool, "UPDATE opening SET opens_at = now() - interval '5 s'")
    assert look(pool, worker, phase=0.2).claims == []
    assert look(pool, worker, phase=0.1).claims


def test_a_paused_job_is_left_alone_and_wakes_nobody(pool: Pool) -> None:
    tasks(pool, 1)
    execute(pool, "UPDATE job SET paused = true")
    found = look(pool, a_worker(pool))
    assert (found.claims, found.wake_at) == ([], None)


def test_a_job_that_the_code_does_not_know_is_left_to_others(pool: Pool) -> None:
    tasks(pool, 1)
    worker = a_worker(pool)
    found = look(pool, worker, names=["other"])
    assert (found.claims, found.wake_at) == ([], None)
    assert look(pool, worker, names=["other", "tick"]).claims


def test_without_a_free_slot_nothing_is_claimed(pool: Pool) -> None:
    tasks(pool, 1)
    assert look(pool, a_worker(pool), load=5, free=0).claims == []


def test_a_worker_without_a_lease_claims_nothing(pool: Pool) -> None:
    tasks(pool, 1)
    a_worker(pool)
    assert look(pool, uuid4()).claims == []
    assert value(pool, "SELECT count(*) FROM run WHERE token IS NULL AND attempt = 0") == 1


def test_a_worker_whose_lease_has_run_out_claims_nothing(pool: Pool) -> None:
    tasks(pool, 1)
    worker = a_worker(pool)
    expire(pool, worker)
    assert look(pool, worker).claims == []


def test_a_worker_that_is_being_declared_dead_claims_nothing(pool: Pool) -> None:
    tasks(pool, 1)
    worker = a_worker(pool)
    with transaction(pool) as (_, connection):
        connection.execute("DELETE FROM worker")
        assert look(pool, worker).claims == []  # and it does not wait


def test_higher_priority_comes_first_then_what_waits_longest(pool: Pool) -> None:
    low = tasks(pool, 1, ago=50, priority=-1)
    new = tasks(pool, 1, ago=1, priority=5)
    old = tasks(pool, 1, ago=9, priority=5)
    middle = tasks(pool, 1, ago=99)
    worker = a_worker(pool)
    order = [look(pool, worker, free=1).claims[0].id for _ in range(4)]
    assert order == old + new + middle + low


def test_a_locked_run_is_passed_by(pool: Pool) -> None:
    first, second = tasks(pool, 2)
    worker = a_worker(pool)
    with transaction(pool) as (_, connection):
        connection.execute("SELECT FROM run WHERE id = %s FOR UPDATE", (first,))
        assert [claim.id for claim in look(pool, worker).claims] == [second]


def test_an_idle_look_writes_nothing(pool: Pool) -> None:
    tasks(pool, 5, ago=-100)
    worker = a_worker(pool)
    with transaction(pool) as (lent, connection):
        look(lent, worker)
        written = connection.execute("SELECT pg_current_xact_id_if_assigned()").fetchone()
    assert written == (None,)


def test_a_look_that_claims_writes(pool: Pool) -> None:
    tasks(pool, 1)
    worker = a_worker(pool)
    with transaction(pool) as (lent, connection):
        look(lent, worker)
        written = connection.execute("SELECT pg_current_xact_id_if_assigned()").fetchone()
    assert written != (None,)


def test_a_run_starts_no_sooner_than_the_attempt_before_ended(pool: Pool) -> None:
    tasks(pool, 1)
    worker = a_worker(pool)
    for _ in range(20):
        claim = look(pool, worker).claims[0]
        runs.finish(pool, [ended(pool, claim, "interrupted")])
    overlaps = query(
        pool,
        "SELECT FROM history a JOIN history b ON b.fence > a.fence"
        " WHERE b.started_at < a.finished_at",
    )
    assert overlaps == []


def test_a_look_sees_the_peers_that_it_can_judge(pool: Pool) -> None:
    me = a_worker(pool)
    near = a_worker(pool)
    far = a_worker(pool, process=NOWHERE)
    a_worker(pool, process=Identity(None, 1, 0))
    gone = a_worker(pool, process=Identity("a third host", 5, 6))
    expire(pool, gone)
    found = {peer.id: (peer.process, peer.expired) for peer in look(pool, me).peers}
    assert found == {near: (HERE, False), gone: (Identity("a third host", 5, 6), True)}
    assert far not in found


def test_a_run_held_by_nobody_is_seen(pool: Pool) -> None:
    tasks(pool, 1)
    me, gone = a_worker(pool), a_worker(pool)
    assert look(pool, gone).claims
    assert not look(pool, me).stranded
    execute(pool, "DELETE FROM worker WHERE id = %s", gone)
    assert look(pool, me).stranded


def test_a_claim_carries_the_schedule_that_holds_now(pool: Pool) -> None:
    jobs.declare(pool, [a_job(timezone="Europe/Berlin")])
    jobs.change(pool, "tick", {"schedule": "30 2 * * *"})
    jobs.run_now(pool, "tick")
    claim = look(pool, a_worker(pool)).claims[0]
    assert (claim.schedule, claim.timezone) == ("30 2 * * *", "Europe/Berlin")
