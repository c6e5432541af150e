"""Leases: who is alive, and what becomes of the runs of those who are not."""

import subprocess
import time
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from cluster import database
from cluster.database import Pool
from cluster.process import Identity
from cluster.store import leases, runs
from tests.integration.builders import (
    HERE,
    NOWHERE,
    a_worker,
    beside,
    claimed,
    ended,
    execute,
    expire,
    look,
    outcomes,
    query,
    settled,
    tasks,
    together,
    transaction,
    value,
)


def register(pool: Pool, number: int = 1, copies: int = 1) -> UUID:
    """Register a worker and leave the opening as that made it."""
    return leases.register(pool, f"host:{number}", HERE, ["tick"], 15, copies=copies)


def opening(pool: Pool) -> tuple[object, ...]:
    """Return when the first worker came, and when runs open."""
    return query(pool, "SELECT first_at::text, opens_at::text FROM opening")[0]


def test_the_first_worker_of_a_silent_cluster_opens_it_in_a_second(pool: Pool) -> None:
    register(pool)
    ahead = value(pool, "SELECT o.opens_at - w.started_at FROM opening o, worker w")
    assert timedelta(seconds=1) <= ahead < timedelta(seconds=3)


def test_a_worker_that_joins_a_cluster_at_work_moves_nothing(pool: Pool) -> None:
    a_worker(pool)
    before = opening(pool)
    register(pool)
    assert opening(pool) == before


def test_workers_that_start_together_open_after_the_last(pool: Pool) -> None:
    together(5, lambda number: register(pool, number))
    assert value(pool, "SELECT count(*) FROM worker") == 5
    ahead = value(pool, "SELECT opens_at - (SELECT max(started_at) FROM worker) FROM opening")
    assert ahead >= timedelta(seconds=1)


def test_workers_that_keep_coming_put_the_opening_off_by_five_seconds_at_most(pool: Pool) -> None:
    register(pool)
    execute(
        pool,
        "UPDATE opening SET first_at = now() - interval '4.5 s', opens_at = now() + interval '1 h'",
    )
    register(pool)
    assert value(pool, "SELECT opens_at - first_at FROM opening") == timedelta(seconds=5)


def test_while_copies_are_missing_the_opening_waits_for_them_five_seconds(pool: Pool) -> None:
    for number in range(1, 3):
        register(pool, number, copies=3)
        assert value(pool, "SELECT opens_at - first_at FROM opening") == timedelta(seconds=5)


def test_the_last_of_the_copies_ends_the_wait_for_them(pool: Pool) -> None:
    together(3, lambda number: register(pool, number, copies=3))
    ahead = value(pool, "SELECT opens_at - (SELECT max(started_at) FROM worker) FROM opening")
    assert timedelta(seconds=1) <= ahead < timedelta(seconds=3)


def test_copies_that_have_died_are_not_waited_for_in_a_cluster_at_work(pool: Pool) -> None:
    a_worker(pool)
    before = opening(pool)
    register(pool, 2, copies=5)
    assert opening(pool) == before


def test_leases_that_have_run_out_make_a_cluster_silent(pool: Pool) -> None:
    expire(pool, a_worker(pool))
    register(pool)
    assert value(pool, "SELECT opens_at > now() FROM opening")


def test_a_cluster_that_was_killed_whole_opens_again_at_once(pool: Pool) -> None:
    expire(pool, register(pool))
    before = opening(pool)
    execute(pool, "UPDATE opening SET opens_at = now() - interval '1 ms'")
    register(pool)
    assert opening(pool) != before


def test_where_workers_come_and_go_all_the_time_the_opening_is_not_put_off(pool: Pool) -> None:
    assert leases.resign(pool, register(pool))
    execute(pool, "UPDATE opening SET opens_at = now() - interval '9 s'")
    before = opening(pool)
    assert leases.resign(pool, register(pool, 2))
    assert opening(pool) == before
    execute(pool, "UPDATE opening SET opens_at = now() - interval '11 s'")
    register(pool, 3)
    assert value(pool, "SELECT opens_at > now() FROM opening")


def test_a_second_start_waits_for_the_first_and_joins_it(pool: Pool) -> None:
    with transaction(pool) as (lent, _):
        register(lent)
        second = beside(pool, lambda: register(pool, 2))
    second()
    distance = value(pool, "SELECT opens_at - first_at FROM opening")
    assert timedelta(seconds=1) <= distance <= timedelta(seconds=5)


def test_a_lease_says_who_and_how_long(pool: Pool) -> None:
    worker = register(pool, 7)
    rows = query(
        pool,
        "SELECT id, name, host, pid, process_started, jobs, lease, lease_until - started_at,"
        " leaving FROM worker",
    )
    lease = timedelta(seconds=15)
    facts = (HERE.host, HERE.pid, HERE.started)
    assert rows == [(worker, "host:7", *facts, ["tick"], lease, lease, False)]


def test_every_start_has_an_identity_of_its_own(pool: Pool) -> None:
    assert len(set(together(5, lambda _: register(pool)))) == 5


def test_a_beat_renews_the_lease(pool: Pool) -> None:
    worker = a_worker(pool, lease=15)
    execute(pool, "UPDATE worker SET lease_until = now() - interval '1 s'")
    assert leases.beat(pool, worker, [])
    left = value(pool, "SELECT lease_until - now() FROM worker")
    assert timedelta(seconds=10) < left <= timedelta(seconds=15)


def test_a_beat_brings_a_lease_that_lies_too_far_ahead_back(pool: Pool) -> None:
    # The database's clock jumped back by an hour.
    worker = a_worker(pool, lease=15)
    execute(pool, "UPDATE worker SET lease_until = now() + interval '1 h'")
    leases.beat(pool, worker, [])
    assert value(pool, "SELECT lease_until <= now() + lease FROM worker")


def test_a_beat_writes_the_progress_of_its_own_runs_only(pool: Pool) -> None:
    tasks(pool, 2)
    one, other = a_worker(pool), a_worker(pool)
    mine = look(pool, one, free=1).claims[0]
    theirs = look(pool, other, free=1).claims[0]
    leases.beat(pool, one, [(mine.token, 0.5), (theirs.token, 0.75), (uuid4(), 0.1)])
    found = dict(query(pool, "SELECT token, progress FROM run"))
    assert found == {mine.token: 0.5, theirs.token: None}


def test_a_beat_costs_as_much_for_each_of_many_runs_as_for_few(pool: Pool, url: str) -> None:
    tasks(pool, 1000)
    least = []
    with database.pool(url, "ronin engine", 1, session=database.ONE_PLAN) as engine:
        for count in (50, 1000):
            worker = a_worker(pool)
            held = [claim.token for claim in look(pool, worker, free=count).claims]
            took = []
            for turn in range(20):  # the least of them, however busy the machine
                begun = time.perf_counter()
                assert leases.beat(engine, worker, [(token, turn / 20) for token in held])
                took.append(time.perf_counter() - begun)
            assert value(pool, "SELECT count(*) FROM run WHERE progress = 0.95::real") == count
            least.append(min(took) / count)
            leases.take_over(pool, [worker])
    few, many = least
    assert many < 1.2 * few  # 2.5 times as much, if each is looked for among all


def test_a_beat_after_a_take_over_says_so_and_writes_nothing(pool: Pool) -> None:
    claim = claimed(pool)
    worker = value(pool, "SELECT id FROM worker")
    leases.take_over(pool, [worker])
    assert not leases.beat(pool, worker, [(claim.token, 0.5)])
    assert query(pool, "SELECT token, progress FROM run") == [(None, None)]


def test_a_beat_and_a_take_over_at_once_agree(pool: Pool) -> None:
    for _ in range(30):
        worker = a_worker(pool)
        expire(pool, worker)
        execute(pool, "UPDATE worker SET lease = '1 h'")
        execute(pool, "UPDATE worker SET lease_until = '-infinity', lease = '1 ms'")

        def race(number: int, worker: UUID = worker) -> bool:
            if number == 0:
                return leases.beat(pool, worker, [])
            leases.take_over(pool, [])
            return False

        beaten = together(2, race)[0]
        there = value(pool, "SELECT count(*) FROM worker WHERE id = %s", worker)
        assert beaten or not there
        execute(pool, "DELETE FROM worker")


def test_a_run_of_a_dead_process_is_due_again_as_crashed(pool: Pool) -> None:
    claim = claimed(pool)
    worker = value(pool, "SELECT id FROM worker")
    lost = leases.take_over(pool, [worker])
    assert lost == [leases.Lost(claim.id, "tick", 1, "host:1", "crashed")]
    rows = query(pool, "SELECT id, token, worker_id, attempt, crashes, failures FROM run")
    assert rows == [(claim.id, None, None, 1, 1, 0)]
    assert query(pool, "SELECT token, fence, outcome FROM history") == [
        (claim.token, claim.fence, "crashed")
    ]
    assert query(pool, "SELECT FROM worker") == []


def test_what_ended_and_what_is_due_again_have_one_time(pool: Pool) -> None:
    claimed(pool)
    leases.take_over(pool, [value(pool, "SELECT id FROM worker")])
    rows = query(
        pool, "SELECT r.not_before = h.finished_at, r.due_at = h.due_at FROM run r, history h"
    )
    assert rows == [(True, True)]


def test_a_run_of_a_worker_whose_lease_has_run_out_is_taken_over(pool: Pool) -> None:
    claimed(pool)
    expire(pool, value(pool, "SELECT id FROM worker"))
    assert [lost.outcome for lost in leases.take_over(pool, [])] == ["crashed"]


def test_a_living_worker_is_left_alone(pool: Pool) -> None:
    claimed(pool)
    assert leases.take_over(pool, []) == []
    assert value(pool, "SELECT count(*) FROM worker") == 1


@pytest.mark.parametrize(("lease", "dead"), [(120, False), (30, True)])
def test_nobody_is_dead_sooner_than_a_lease_after_the_server_is_known(
    pool: Pool, lease: float, dead: bool
) -> None:
    claimed(pool)
    settled(pool, ago=60)
    execute(
        pool,
        "UPDATE worker SET lease_until = now() - interval '1 day',"
        " lease = make_interval(secs => %s)",
        lease,
    )
    assert any(peer.expired for peer in look(pool, a_worker_of_now(pool)).peers) == dead
    assert bool(leases.take_over(pool, [])) == dead


def a_worker_of_now(pool: Pool) -> UUID:
    return leases.register(pool, "host:2", NOWHERE, ["tick"], 600)


def test_at_another_server_nobody_is_dead_until_the_workers_have_settled(pool: Pool) -> None:
    claimed(pool)
    expire(pool, value(pool, "SELECT id FROM worker"))
    execute(pool, "UPDATE server SET started_at = started_at - interval '1 s'")
    me = a_worker_of_now(pool)
    found = look(pool, me)
    assert (found.unsettled, any(peer.expired for peer in found.peers)) == (True, False)
    assert leases.take_over(pool, []) == []
    leases.settle(pool)
    assert not look(pool, me).unsettled
    settled(pool)
    assert len(leases.take_over(pool, [])) == 1


def test_a_clock_that_was_set_ahead_kills_nobody_once_it_is_settled(pool: Pool) -> None:
    claimed(pool)
    # As after a jump: the lease was good for a minute more a moment ago.
    execute(pool, "UPDATE worker SET lease_until = now() - interval '1 h'")
    leases.settle(pool)
    assert leases.take_over(pool, []) == []


def test_a_clock_that_was_set_back_keeps_nobody_alive_for_longer_than_a_lease(pool: Pool) -> None:
    worker = a_worker(pool, lease=60)
    execute(pool, "UPDATE worker SET lease_until = now() + interval '1 h'")
    leases.settle(pool)
    left = value(pool, "SELECT lease_until - now() FROM worker WHERE id = %s", worker)
    assert left <= timedelta(seconds=60)


def test_an_opening_by_a_clock_that_was_ahead_keeps_nobody_waiting(pool: Pool) -> None:
    worker = a_worker(pool)
    tasks(pool, 1)
    execute(pool, "UPDATE opening SET opens_at = now() + interval '1 h', first_at = opens_at")
    assert look(pool, worker).claims == []
    leases.settle(pool)
    assert len(look(pool, worker).claims) == 1


def test_an_opening_that_is_about_to_come_is_left_to_come(pool: Pool) -> None:
    leases.register(pool, "host:1", NOWHERE, ["tick"], 600, copies=5)
    before = opening(pool)
    leases.settle(pool)
    assert opening(pool) == before


def test_who_may_not_judge_by_lease_takes_over_the_proven_alone(pool: Pool) -> None:
    workers = [a_worker(pool, name=f"host:{number}") for number in range(2)]
    tasks(pool, 2)
    for worker in workers:
        assert look(pool, worker, free=1).claims
        expire(pool, worker)
    assert leases.take_over(pool, [], by_lease=False) == []
    assert len(leases.take_over(pool, workers[:1], by_lease=False)) == 1
    assert len(leases.take_over(pool, [])) == 1


def test_proof_counts_at_any_server(pool: Pool) -> None:
    claimed(pool)
    execute(pool, "UPDATE server SET started_at = '-infinity'")
    assert len(leases.take_over(pool, [value(pool, "SELECT id FROM worker")])) == 1


def test_proof_of_death_needs_no_lease_to_run_out(pool: Pool) -> None:
    worker = a_worker(pool, lease=3600)
    tasks(pool, 3)
    look(pool, worker)
    assert len(leases.take_over(pool, [worker])) == 3


def test_what_a_leaving_worker_held_is_interrupted_and_no_crash(pool: Pool) -> None:
    claimed(pool)
    worker = value(pool, "SELECT id FROM worker")
    leases.leave(pool, worker)
    assert [lost.outcome for lost in leases.take_over(pool, [worker])] == ["interrupted"]
    assert query(pool, "SELECT crashes, failures FROM run") == [(0, 0)]


def test_a_leaving_worker_is_not_taken_over_while_it_lives(pool: Pool) -> None:
    claimed(pool)
    leases.leave(pool, value(pool, "SELECT id FROM worker"))
    assert leases.take_over(pool, []) == []


def test_a_dead_worker_is_taken_by_one_of_many(pool: Pool) -> None:
    tasks(pool, 10)
    dead = [a_worker(pool, name=f"host:{number}") for number in range(5)]
    for worker in dead:
        look(pool, worker, free=2)
    lost = together(6, lambda _: leases.take_over(pool, dead))
    assert sum(len(found) for found in lost) == 10
    assert outcomes(pool) == ["crashed"] * 10
    assert value(pool, "SELECT count(*) FROM run WHERE crashes = 1 AND token IS NULL") == 10


def test_a_run_that_nobody_holds_is_freed(pool: Pool) -> None:
    claimed(pool)
    execute(pool, "DELETE FROM worker")
    assert [lost.outcome for lost in leases.take_over(pool, [])] == ["crashed"]
    assert not look(pool, a_worker(pool), free=0).stranded


def test_a_claim_that_races_its_own_death_strands_no_run_for_good(pool: Pool) -> None:
    tasks(pool, 5)
    watch = a_worker(pool)
    for _ in range(40):
        worker = a_worker(pool)

        def race(number: int, worker: UUID = worker) -> int:
            if number == 0:
                return len(look(pool, worker).claims)
            return len(leases.take_over(pool, [worker]))

        together(2, race)
        found = look(pool, watch, free=0)
        if found.stranded or any(peer.id == worker for peer in found.peers):
            leases.take_over(pool, [worker])
        assert not look(pool, watch, free=0).stranded
        assert value(pool, "SELECT count(*) FROM run WHERE token IS NOT NULL") == 0


def test_a_claim_that_is_under_way_is_not_torn_apart(pool: Pool) -> None:
    tasks(pool, 1)
    worker = a_worker(pool)
    with transaction(pool) as (lent, _):
        look(lent, worker)
        assert leases.take_over(pool, [worker]) == []
        assert value(pool, "SELECT count(*) FROM worker") == 1
    assert len(leases.take_over(pool, [worker])) == 1


def test_a_claim_between_the_look_and_the_removal_is_found_at_the_next_look(pool: Pool) -> None:
    tasks(pool, 1)
    watch, worker = a_worker(pool), a_worker(pool)
    with transaction(pool) as (lent, connection):
        connection.execute("SELECT FROM run FOR UPDATE")
        leases.take_over(lent, [worker])
        assert look(pool, worker).claims == []
    assert look(pool, worker).claims == []
    assert not look(pool, watch, free=0).stranded


def test_a_lease_is_given_back_when_nothing_is_held(pool: Pool) -> None:
    worker = a_worker(pool)
    assert leases.resign(pool, worker)
    assert query(pool, "SELECT FROM worker") == []


def test_a_lease_is_not_given_back_while_runs_are_held(pool: Pool) -> None:
    claim = claimed(pool)
    worker = value(pool, "SELECT id FROM worker")
    assert not leases.resign(pool, worker)
    runs.finish(pool, [ended(pool, claim)])
    assert leases.resign(pool, worker)


def test_a_claim_that_was_committed_late_keeps_its_lease(pool: Pool) -> None:
    tasks(pool, 1)
    worker = a_worker(pool)
    with transaction(pool) as (lent, _):
        look(lent, worker)
        resigned = beside(pool, lambda: leases.resign(pool, worker))
    resigned()
    held = value(pool, "SELECT count(*) FROM run WHERE token IS NOT NULL")
    assert held == 1
    # Whichever way it went: the run is not lost.
    watch = a_worker(pool)
    assert look(pool, watch, free=0).stranded or leases.take_over(pool, [worker])


def test_a_real_process_that_died_can_be_proven_dead_from_its_row(pool: Pool) -> None:
    with subprocess.Popen(["sleep", "100"]) as child:
        child.kill()
    me = a_worker(pool)
    worker = a_worker(pool, process=Identity(HERE.host, child.pid, 1))
    peers = {peer.id: peer for peer in look(pool, me).peers}
    assert peers[worker].process == Identity(HERE.host, child.pid, 1)
    assert not peers[worker].expired
