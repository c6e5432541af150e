"""Waits: why each run waits, as the database tells it, and what becomes of it meanwhile."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from cluster import database
from cluster.database import Pool
from cluster.job import Job
from cluster.process import Identity
from cluster.pulse import Count
from cluster.reason import Holder, Reason
from cluster.store import jobs, leases, pulse, views, waits
from tests.integration.builders import (
    HERE,
    a_job,
    a_kind,
    a_worker,
    asked,
    claimed,
    due,
    end,
    execute,
    query,
    settled,
    taken,
    transaction,
    value,
)


def crew(pool: Pool, *names: str, workers: int = 1, slots: int | None = 2) -> list[UUID]:
    """Register workers that know these kinds, default `work`, in a cluster that is open."""
    found = [
        leases.register(pool, f"host:{n}", HERE, names or ["work"], 600, slots=slots)
        for n in range(workers)
    ]
    execute(pool, "UPDATE opening SET opens_at = '-infinity'")
    settled(pool)
    return found


def kinds(pool: Pool, *declared: Job) -> None:
    """Declare kinds, default `work` without a limit."""
    jobs.declare(pool, declared or [a_kind()])


def why(pool: Pool, run: UUID) -> Reason:
    """Return the reason of a run that waits."""
    return waits.reasons(pool, [run])[run]


def texts(pool: Pool, runs: list[UUID]) -> list[str]:
    """Return the reasons of runs, in their order."""
    found = waits.reasons(pool, runs)
    return [found[run].text for run in runs]


def a_run(pool: Pool) -> UUID:
    """Return the only run."""
    run: UUID = value(pool, "SELECT id FROM run")
    return run


def no_worker(text: str) -> Reason:
    """Return the reason that nobody can perform a run."""
    return Reason("no_worker", text, gist=text)


def test_what_does_not_wait_has_no_reason(pool: Pool) -> None:
    """Neither a run under way, nor one that is over, nor one that never was."""
    kinds(pool)
    crew(pool)
    waiting, running = asked(pool)[0], asked(pool)[0]
    execute(pool, "UPDATE run SET not_before = now() + interval '1 h' WHERE id = %s", waiting)
    over = asked(pool)[0]
    for claim in taken(pool):
        if claim.id == over:
            end(pool, claim, "completed")
    assert set(waits.reasons(pool, [waiting, running, over, uuid4()])) == {waiting}
    assert waits.reasons(pool, []) == {}


def test_a_run_that_starts_between_two_reads_has_no_reason(pool: Pool) -> None:
    """Who has read that it waits, and then asks why, is not told something that was so before."""
    kinds(pool)
    (run,) = asked(pool)
    before = views.run(pool, run)
    assert before
    assert before["state"] == "waiting"
    taken(pool)
    assert waits.reasons(pool, [run]) == {}


def test_a_run_that_is_being_claimed_waits_until_that_is_committed(pool: Pool) -> None:
    """A claim under way holds nobody up who asks, and is not seen."""
    kinds(pool)
    (worker,) = crew(pool)
    (run,) = asked(pool)
    with transaction(pool) as (lent, _):
        assert taken(lent, worker=worker)
        assert why(pool, run).word == "free_worker"
    assert waits.reasons(pool, [run]) == {}


def test_a_run_for_later_tells_when(pool: Pool) -> None:
    """Its due time, and how far that is."""
    kinds(pool)
    crew(pool)
    (run,) = asked(pool, run_at="2999-01-01T00:00:00Z")
    found = why(pool, run)
    assert found.word == "schedule"
    assert found.text.startswith("due at 2999-01-01 00:00:00 UTC (in 35")
    assert found.until == value(pool, "SELECT not_before FROM run")


def test_a_firing_tells_when_it_is_due(pool: Pool) -> None:
    """As a task for later does."""
    jobs.declare(pool, [a_job(at_once=False)])
    crew(pool, "tick")
    assert why(pool, a_run(pool)).word == "schedule"


@pytest.mark.parametrize(
    ("outcome", "text"),
    [("failed", "after failure 2"), ("timed_out", "after failure 2"), ("crashed", "after crash 1")],
)
def test_a_run_that_backs_off_tells_until_when_and_after_what(
    pool: Pool, outcome: str, text: str
) -> None:
    """The last attempt's end, and the how many-th of its sort it was."""
    kind = a_kind(retry_delay=100, max_retries=5)
    kinds(pool, kind)
    (run,) = asked(pool)
    for said in ("failed", outcome):
        due(pool)
        (claim,) = taken(pool)
        end(pool, claim, said, kind)
    found = why(pool, run)
    assert found.word == "retry"
    assert found.text.startswith("backing off until ")
    assert found.text.endswith(text)
    assert found.until == value(pool, "SELECT not_before FROM run")


def test_a_run_of_a_paused_job_tells_so(pool: Pool) -> None:
    """Whether it is due or not."""
    jobs.declare(pool, [a_job(), a_job(name="later", at_once=False)])
    crew(pool, "tick", "later")
    for name in ("tick", "later"):
        jobs.change(pool, name, {"paused": True})
    runs = [run for (run,) in query(pool, "SELECT id FROM run")]
    assert texts(pool, runs) == ["paused", "paused"]


@pytest.mark.parametrize("what", ["job", "kind"])
def test_who_has_paused_it_is_told(pool: Pool, what: str) -> None:
    """The last one who did, and when; not somebody who paused it before it was resumed."""
    declared = a_job() if what == "job" else a_kind()
    jobs.declare(pool, [declared])
    crew(pool, declared.name)
    run = a_run(pool) if what == "job" else asked(pool)[0]
    for who, paused in (("ann", True), ("ben", False), ("cem", True), ("dan", True)):
        jobs.change(pool, declared.name, {"paused": paused}, by=who)
    at = value(pool, "SELECT max(id::text)::uuid FROM action")
    when = value(pool, "SELECT uuid7_time(%s)", at)
    assert why(pool, run).text == f"paused by cem at {when:%Y-%m-%d %H:%M:%S} UTC"
    for paused in (False, True):  # by a program of ours, of which there is no record
        jobs.change(pool, declared.name, {"paused": paused}, by="eve" if not paused else None)
    assert why(pool, run).text == "paused"


def test_a_kind_that_no_worker_knows(pool: Pool) -> None:
    """One that leaves, is dead, or works elsewhere over HTTP does not count."""
    kinds(pool)
    (run,) = asked(pool)
    assert why(pool, run) == no_worker("no worker is at work")
    crew(pool, "other")
    assert why(pool, run) == no_worker("no worker knows this kind")
    leaving, dead = crew(pool, workers=2)
    leases.leave(pool, leaving)
    execute(pool, "UPDATE worker SET lease_until = now() WHERE id = %s", dead)
    with pool.connection() as connection:
        leases.lend(connection, "remote", ["work"], 600)
    assert why(pool, run) == no_worker("no worker knows this kind")


def test_a_job_that_nobody_has_declared(pool: Pool) -> None:
    """A run may be older than the code."""
    kinds(pool)
    crew(pool)
    (run,) = asked(pool)
    execute(pool, "DELETE FROM job")
    assert why(pool, run) == no_worker("no worker knows this kind")


def test_a_full_limit_names_its_holders(pool: Pool) -> None:
    """The runs under way and their workers, and the places of those that wait behind them."""
    kinds(pool, a_kind(max_running=2))
    one, other = crew(pool, workers=2)
    runs = asked(pool, 4)
    holders = [*taken(pool, worker=one, free=1), *taken(pool, worker=other, free=1)]
    full = "limit of 2 full, held by host:0 and host:1; place"
    waiting = [run for run in runs if run not in [claim.id for claim in holders]]
    assert texts(pool, waiting) == [f"{full} 1 of its kind", f"{full} 2 of its kind"]
    found = why(pool, waiting[0])
    assert found.word == "limit"
    assert list(found.holders) == [Holder(claim.id, claim.worker) for claim in holders]


def test_a_limit_that_is_not_full_is_no_reason(pool: Pool) -> None:
    """It starts at the next look of a worker."""
    kinds(pool, a_kind(max_running=2))
    crew(pool)
    (run,) = asked(pool)
    assert why(pool, run).text == "a worker takes it at its next look"


def test_places_go_by_priority_and_then_by_time(pool: Pool) -> None:
    """Over all kinds that any worker may start."""
    kinds(pool, a_kind(), a_kind(name="other"), a_kind(name="paused"), a_kind(name="unknown"))
    (worker,) = crew(pool, "work", "other", "paused", slots=1)
    asked(pool)
    assert taken(pool, worker=worker, free=1)
    low = asked(pool, 1, priority=-1)
    first, second = asked(pool)[0], asked(pool, kind="other")[0]
    high = asked(pool, 1, kind="other", priority=1)
    for kind in ("paused", "unknown"):
        asked(pool, 5, kind=kind, priority=2)
    asked(pool, 5, priority=3, run_at="2999-01-01T00:00:00Z")
    jobs.change(pool, "paused", {"paused": True})
    found = waits.reasons(pool, [first, second, *low, *high])
    assert [found[run].place for run in (*high, first, second, *low)] == [1, 2, 3, 4]
    assert found[first].text == "the only slot of 1 worker full; place 2 in the queue"


def test_a_kind_with_a_limit_takes_no_more_places_than_it_has_room(pool: Pool) -> None:
    """What waits for its own limit holds nobody else up."""
    kinds(pool, a_kind(), a_kind(name="limited", max_running=2))
    (worker,) = crew(pool, "work", "limited", slots=1)
    limited = asked(pool, 5, kind="limited", priority=1)
    (run,) = asked(pool)
    assert why(pool, run).place == 3
    found = waits.reasons(pool, limited)
    assert [found[each].place for each in limited] == [1, 2, 3, 4, 5]
    assert taken(pool, "limited", worker=worker, free=2)
    assert why(pool, run).place == 1


def test_a_place_far_behind_is_not_counted(pool: Pool) -> None:
    """However many wait, to ask takes no longer."""
    kinds(pool)
    crew(pool, slots=None)
    runs = asked(pool, 12)
    found = waits.reasons(pool, [runs[9], runs[10]], counted=10)
    assert found[runs[9]].place == 10
    assert found[runs[10]].place is None
    assert found[runs[10]].text.endswith("; more than 10 before it")


def test_a_worker_with_a_free_slot_takes_what_is_first(pool: Pool) -> None:
    """As many as there are free slots; the others have their places."""
    kinds(pool)
    crew(pool, workers=2, slots=1)
    runs = asked(pool, 3)
    look = "a worker takes it at its next look"
    assert texts(pool, runs) == [look, look, "place 3 in the queue"]


def test_a_kind_for_remote_workers_waits_for_one_to_ask(pool: Pool) -> None:
    """Nobody can know whether there is one that knows it."""
    kinds(pool, a_kind(remote=True), a_kind(name="other"))
    crew(pool, "other")
    asked(pool, 3, kind="other", priority=5)
    (run,) = asked(pool)
    assert why(pool, run).text == "a remote worker has to ask for it; place 1 of its kind"


def test_the_opening_is_waited_for(pool: Pool) -> None:
    """By what is due; what is for later is for later."""
    kinds(pool)
    crew(pool)
    execute(pool, "UPDATE opening SET opens_at = now() + interval '100 s'")
    (run,) = asked(pool)
    found = why(pool, run)
    assert found.word == "opening"
    assert found.until == value(pool, "SELECT opens_at FROM opening")


def test_a_cancelled_run_is_being_ended(pool: Pool) -> None:
    """Until the next look of some worker."""
    jobs.declare(pool, [a_job()])
    crew(pool, "tick")
    execute(pool, "UPDATE run SET start_by = '-infinity'")
    assert why(pool, a_run(pool)).word == "cancelled"


def test_a_deadline_is_told(pool: Pool) -> None:
    """While it is due, and once it has passed."""
    kinds(pool)
    crew(pool)
    (run,) = asked(pool, deadline="2999-01-01T00:00:00Z")
    assert "; dropped unless it starts by 2999-01-01 00:00:00 UTC (in " in why(pool, run).text
    execute(pool, "UPDATE run SET start_by = now()")
    assert why(pool, run).word == "deadline"


def test_the_pulse_tells_when_a_place_in_the_queue_starts(pool: Pool) -> None:
    """By the starts in minutes that had a queue from their beginning to their end."""
    kinds(pool)
    crew(pool, slots=1)
    first, *_, last = asked(pool, 13)
    assert first in [claim.id for claim in taken(pool, free=1)]
    now = value(pool, "SELECT date_trunc('minute', now())")
    assert why(pool, last).until is None
    # Two queues: in one minute 60 a minute, in its beginning fewer; and another where it ended.
    for minutes, started, waiting in ((9, 1, 1), (8, 60, 1), (7, 1, 0), (5, 1, 0), (4, 1, 1)):
        worker, minute = uuid4(), now - timedelta(minutes=minutes)
        pulse.write(pool, worker, [Count(minute, started=started)])
        execute(pool, "UPDATE pulse SET waiting = %s WHERE minute = %s", waiting, minute)
    found = why(pool, last)
    assert found.text.endswith("place 12 in the queue, expected to start in about 12 s")
    assert found.until
    assert timedelta(seconds=12) <= found.until - now <= timedelta(minutes=2)


@pytest.mark.parametrize(("limit", "seconds"), [(None, 20), (1, 40)])
def test_the_last_attempts_tell_when_a_place_starts_if_the_pulse_does_not(
    pool: Pool, limit: int | None, seconds: int
) -> None:
    """By what attempts of the kind have taken, and how many there are at once."""
    kinds(pool, a_kind(max_running=limit))
    (worker,) = crew(pool, slots=2)
    for claim in (claim for _ in asked(pool, 2) for claim in taken(pool, worker=worker, free=1)):
        end(pool, claim, "completed")
    execute(pool, "UPDATE history SET started_at = finished_at - interval '10 s'")
    runs = asked(pool, 6 if limit is None else 5)
    taken(pool, worker=worker, free=2)
    found = why(pool, runs[-1])
    assert found.text.endswith(
        f"place 4 {'in the queue' if limit is None else 'of its kind'}"
        f", expected to start in about {seconds} s"
    )


def test_the_next_firing_waits_for_the_run_that_is_under_way(pool: Pool) -> None:
    """Two runs of a job never overlap."""
    job = a_job()
    jobs.declare(pool, [job])
    (row,) = views.jobs(pool)
    assert waits.behind(row) is None
    claim = claimed(pool, job, a_worker(pool, process=Identity("host", 1, 1)))
    (row,) = views.jobs(pool)
    found = waits.behind(row)
    assert found
    assert found.word == "run_before"
    assert found.text.startswith("previous run under way on host:1 since ")
    assert found.holders == [Holder(claim.id, "host:1")]


def test_every_sort_of_run_at_once(pool: Pool) -> None:
    """One question for many runs, each with a reason of its own."""
    kinds(pool, a_kind(), a_kind(name="limited", max_running=1), a_kind(name="unknown"))
    crew(pool, "work", "limited")
    wanted: dict[str, Any] = {
        "schedule": asked(pool, run_at="2999-01-01T00:00:00Z")[0],
        "no_worker": asked(pool, kind="unknown")[0],
        "free_worker": asked(pool)[0],
    }
    held, wanted["limit"] = asked(pool, 2, kind="limited")
    assert [claim.id for claim in taken(pool, "limited", free=1)] == [held]
    found = waits.reasons(pool, list(wanted.values()))
    assert {found[run].word: run for run in found} == wanted


@pytest.mark.parametrize("asked_before", [0, 4, 5, 6])
def test_a_question_that_failed_is_answered_in_the_same_session(
    url: str, pool: Pool, asked_before: int
) -> None:
    """Whichever use of the statement it was: nothing stays half prepared."""
    kinds(pool)
    (run,) = asked(pool)
    with database.pool(url, "ronin http", size=1, session={"lock_timeout": "50ms"}) as http:
        for _ in range(asked_before):
            assert waits.reasons(http, [run])
        with pool.connection() as holder, holder.transaction():
            holder.execute("LOCK TABLE opening")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                waits.reasons(http, [run])
        assert waits.reasons(http, [run])
