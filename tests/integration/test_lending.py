"""Lending: tasks for workers that speak HTTP only; leases, tokens, words that come late."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import lending
from cluster.database import Pool
from cluster.job import Catalogue
from cluster.perform import Result
from cluster.run import Claim
from cluster.store import jobs, leases, tasks
from tests.integration.builders import (
    a_kind,
    asked,
    beside,
    catalogue_of,
    execute,
    expire,
    outcomes,
    query,
    together,
    transaction,
    value,
)

KIND = a_kind(retry_delay=60, retry_jitter=0)
CATALOGUE = catalogue_of(KIND)
DONE = Result("completed")
FAILED = Result("failed", "no")
GIVEN_BACK = Result("interrupted", "given back")


@pytest.fixture
def work(pool: Pool) -> Pool:
    """Return a pool on this test's own database, with the kind of tasks `work`."""
    jobs.declare(pool, [KIND])
    return pool


def lent(pool: Pool, limit: int = 10, name: str = "far") -> list[Claim]:
    """Return what a remote worker claims."""
    return lending.claim(pool, name, ["work"], limit, 600)


def one(pool: Pool, **fields: Any) -> Claim:
    """Return a task that a remote worker has just claimed."""
    asked(pool, **fields)
    (claim,) = lent(pool)
    return claim


def beat(
    pool: Pool, claim: Claim, progress: float | None = None, sequence: int | None = None
) -> lending.Beat:
    """Send a heartbeat."""
    return lending.beat(pool, claim.id, claim.token, progress, sequence)


def report(pool: Pool, claim: Claim, result: Result, catalogue: Catalogue = CATALOGUE) -> None:
    """Report how an attempt ended."""
    lending.report(pool, catalogue, claim.id, claim.token, result)


def say(pool: Pool, claim: Claim, result: Result | None) -> None:
    """Report a result, or send a heartbeat if there is none."""
    if result:
        report(pool, claim, result)
    else:
        beat(pool, claim, 0.5, 1)


def silence(pool: Pool) -> None:
    """Let every lease run out, and take over what was held under them."""
    for (worker,) in query(pool, "SELECT id FROM worker"):
        expire(pool, worker)
    leases.take_over(pool, [])


def everything(pool: Pool) -> list[tuple[Any, ...]]:
    """Return all rows that a word could change."""
    return query(
        pool,
        "SELECT r::text FROM run r UNION ALL SELECT h::text FROM history h"
        " UNION ALL SELECT w::text FROM worker w ORDER BY 1",
    )


def test_a_claim_is_under_one_lease_that_nobody_can_prove_dead(work: Pool) -> None:
    wanted = asked(work, 3, name="n", args={"note": "x"}, max_retries=2)
    claims = lent(work, 3)
    assert [claim.id for claim in claims] == wanted
    assert {claim.worker for claim in claims} == {"far"}
    assert (claims[0].name, claims[0].args, claims[0].max_retries) == ("n", '{"note": "x"}', 2)
    rows = query(
        work,
        "SELECT name, remote, host, jobs, lease = '600 s', lease_until > now() FROM worker",
    )
    assert rows == [("far", True, None, ["work"], True, True)]
    assert value(work, "SELECT count(DISTINCT worker_id) FROM run") == 1


def test_each_claim_has_a_lease_of_its_own_and_takes_what_it_asked_for(work: Pool) -> None:
    asked(work, 5)
    assert [len(lent(work, limit)) for limit in (1, 2, 100)] == [1, 2, 2]
    assert value(work, "SELECT count(DISTINCT worker_id) FROM run") == 3


def test_a_claim_of_nothing_leaves_no_trace(work: Pool) -> None:
    asked(work, run_at="2030-01-01T00:00:00Z")
    asked(work, deadline="2020-01-01T00:00:00Z")
    before = everything(work)
    assert lent(work) == []
    assert everything(work) == before


def test_a_claim_is_of_the_kinds_that_were_asked_for(work: Pool) -> None:
    jobs.declare(work, [a_kind(name="other")])
    asked(work)
    assert lending.claim(work, "far", ["other"], 10, 600) == []
    assert query(work, "SELECT FROM worker") == []
    assert len(lending.claim(work, "far", ["other", "work"], 10, 600)) == 1


def test_no_task_goes_to_two_of_many_at_once(work: Pool) -> None:
    wanted = set(asked(work, 60))

    def drain(number: int) -> list[UUID]:
        found: list[UUID] = []
        while claims := lent(work, 4, f"far:{number}"):
            found += [claim.id for claim in claims]
        return found

    found = [task for mine in together(4, drain) for task in mine]
    assert len(found) == 60
    assert set(found) == wanted


def test_a_heartbeat_renews_the_lease_and_writes_the_progress(work: Pool) -> None:
    claim = one(work)
    execute(work, "UPDATE worker SET lease_until = now() + interval '1 s'")
    found = beat(work, claim, 0.25, 1)
    assert (found.cancelled, found.late) == (False, False)
    assert query(work, "SELECT lease_until, lease_until > now() + '9 min' FROM worker") == [
        (found.lease_until, True)
    ]
    assert query(work, "SELECT progress, sequence FROM run") == [(0.25, 1)]


def test_a_heartbeat_may_leave_out_the_progress_or_the_sequence(work: Pool) -> None:
    claim = one(work)
    beat(work, claim, 0.5, 1)
    beat(work, claim, None, 2)
    assert query(work, "SELECT progress, sequence FROM run") == [(0.5, 2)]
    assert not beat(work, claim, 0.25).late
    assert query(work, "SELECT progress, sequence FROM run") == [(0.25, 2)]


def test_a_heartbeat_without_a_sequence_may_follow_the_largest(work: Pool) -> None:
    """Nothing is added to a number that has no successor."""
    claim = one(work)
    beat(work, claim, 0.5, 2**63 - 1)
    assert beat(work, claim, 0.75).late is False
    assert query(work, "SELECT progress, sequence FROM run") == [(0.75, 2**63 - 1)]


@pytest.mark.parametrize("sequence", [1, 4, 5])
def test_a_heartbeat_that_was_overtaken_changes_nothing(work: Pool, sequence: int) -> None:
    claim = one(work)
    beat(work, claim, 0.5, 5)
    before = everything(work)
    found = beat(work, claim, 0.1, sequence)
    assert found.late
    assert everything(work) == before


def test_a_new_attempt_counts_its_heartbeats_anew(work: Pool) -> None:
    claim = one(work)
    beat(work, claim, 0.5, 99)
    report(work, claim, GIVEN_BACK)
    (claim,) = lent(work)
    assert query(work, "SELECT progress, sequence FROM run") == [(None, 0)]
    assert not beat(work, claim, 0.1, 1).late


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.permutations(range(1, 7)), twice=st.lists(st.integers(1, 6), max_size=3))
def test_whatever_the_order_of_heartbeats_the_newest_progress_stays(
    work: Pool, order: list[int], twice: list[int]
) -> None:
    claim = one(work)
    newest = 0
    for sequence in order + twice:
        found = beat(work, claim, sequence / 8, sequence)
        assert found.late == (sequence <= newest)
        newest = max(newest, sequence)
        assert query(work, "SELECT progress, sequence FROM run") == [(newest / 8, newest)]
    report(work, claim, DONE)


def test_heartbeats_at_one_moment_leave_the_newest_progress(work: Pool) -> None:
    claim = one(work)
    for round_ in range(15):

        def send(number: int, first: int = 4 * round_ + 1) -> None:
            sequence = first + number
            beat(work, claim, sequence / 64, sequence)

        together(4, send)
        last = 4 * round_ + 4
        assert query(work, "SELECT progress, sequence FROM run") == [(last / 64, last)]


def test_a_heartbeat_tells_of_a_cancel(work: Pool) -> None:
    claim = one(work)
    assert not beat(work, claim).cancelled
    tasks.cancel(work, claim.id)
    assert beat(work, claim, 0.5, 1).cancelled
    assert beat(work, claim, 0.1, 1).cancelled


@pytest.mark.parametrize("result", [None, DONE, FAILED, GIVEN_BACK], ids=str)
def test_a_stale_token_changes_nothing(work: Pool, result: Result | None) -> None:
    claim = one(work)
    before = everything(work)
    for task, token in ((claim.id, uuid4()), (uuid4(), claim.token), (uuid4(), uuid4())):
        stale = claim._replace(id=task, token=token)
        with pytest.raises(lending.StaleTokenError):
            say(work, stale, result)
    assert everything(work) == before


@pytest.mark.parametrize("sequence", [None, 1])
def test_a_heartbeat_after_a_take_over_is_stale(work: Pool, sequence: int | None) -> None:
    claim = one(work)
    silence(work)
    before = everything(work)
    with pytest.raises(lending.StaleTokenError):
        beat(work, claim, 0.5, sequence)
    assert everything(work) == before


def test_a_task_that_is_done_is_over_and_its_lease_is_gone(work: Pool) -> None:
    claim = one(work)
    report(work, claim, Result("completed", value='{"a": 1}'))
    assert query(work, "SELECT FROM run UNION ALL SELECT FROM worker") == []
    rows = query(work, "SELECT outcome, closing, result, worker FROM history")
    assert rows == [("completed", True, {"a": 1}, "far")]


def test_a_lease_stays_until_the_last_of_its_tasks_is_done(work: Pool) -> None:
    asked(work, 2)
    first, second = lent(work)
    report(work, first, DONE)
    assert not beat(work, second).late
    report(work, second, DONE)
    assert query(work, "SELECT FROM worker") == []


@pytest.mark.parametrize("result", [DONE, FAILED, GIVEN_BACK], ids=str)
def test_a_report_that_comes_twice_is_one(work: Pool, result: Result) -> None:
    claim = one(work)
    report(work, claim, result)
    before = everything(work)
    report(work, claim, result)
    assert everything(work) == before
    assert outcomes(work, "work") == [result.outcome]


def test_a_report_that_comes_twice_at_one_moment_is_one(work: Pool) -> None:
    for _ in range(10):
        claim = one(work)
        together(4, lambda _, claim=claim: report(work, claim, DONE))  # type: ignore[misc]
    assert outcomes(work, "work") == ["completed"] * 10


def test_another_ending_after_the_first_is_stale(work: Pool) -> None:
    claim = one(work)
    report(work, claim, DONE)
    before = everything(work)
    for result in (FAILED, GIVEN_BACK):
        with pytest.raises(lending.StaleTokenError):
            report(work, claim, result)
    assert everything(work) == before


@pytest.mark.parametrize("result", [DONE, FAILED, GIVEN_BACK], ids=str)
def test_a_late_report_is_refused_and_recorded_as_fenced_once(work: Pool, result: Result) -> None:
    claim = one(work)
    silence(work)
    run = query(work, "SELECT r::text FROM run r")
    for _ in range(3):
        with pytest.raises(lending.StaleTokenError):
            report(work, claim, result)
    assert query(work, "SELECT r::text FROM run r") == run
    assert sorted(outcomes(work, "work")) == ["crashed", "fenced"]


def test_a_late_report_does_not_disturb_the_next_attempt(work: Pool) -> None:
    claim = one(work)
    silence(work)
    (second,) = lent(work)
    with pytest.raises(lending.StaleTokenError):
        report(work, claim, DONE)
    assert not beat(work, second, 0.5, 1).late
    report(work, second, DONE)
    assert sorted(outcomes(work, "work")) == ["completed", "crashed", "fenced"]


def test_a_report_that_waits_for_a_take_over_is_refused(work: Pool) -> None:
    claim = one(work)
    expire(work, value(work, "SELECT id FROM worker"))
    with transaction(work) as (taking, _):
        assert len(leases.take_over(taking, [])) == 1
        late = beside(work, lambda: report(work, claim, DONE))
    with pytest.raises(lending.StaleTokenError):
        late()
    assert sorted(outcomes(work, "work")) == ["crashed", "fenced"]


def test_heartbeats_and_a_take_over_at_one_moment_agree(work: Pool) -> None:
    for sequence in range(1, 31):
        claim = one(work)
        expire(work, value(work, "SELECT id FROM worker"))

        def race(number: int, claim: Claim = claim, sequence: int = sequence) -> bool:
            if number == 0:
                return bool(leases.take_over(work, []))
            try:
                return bool(beat(work, claim, 0.5, sequence))
            except lending.StaleTokenError:
                return False

        together(2, race)
        # Whoever was first: the token and the lease are either both there, or both gone.
        held = value(work, "SELECT count(*) FROM run WHERE token IS NOT NULL")
        assert held == value(work, "SELECT count(*) FROM worker")
        execute(work, "DELETE FROM run")
        execute(work, "DELETE FROM worker")


def test_silence_makes_a_task_due_again_with_its_crash_counted(work: Pool) -> None:
    claim = one(work)
    assert leases.take_over(work, []) == []
    silence(work)
    rows = query(work, "SELECT id, token, attempt, crashes, failures, not_before <= now() FROM run")
    assert rows == [(claim.id, None, 1, 1, 0, True)]
    (second,) = lent(work)
    assert (second.attempt, second.crashes, second.token != claim.token) == (2, 1, True)


def test_a_heartbeat_of_one_task_keeps_its_siblings(work: Pool) -> None:
    asked(work, 2)
    first, _ = lent(work)
    expire(work, value(work, "SELECT id FROM worker"))
    execute(work, "UPDATE worker SET lease = '600 s'")
    beat(work, first, 0.5, 1)
    assert leases.take_over(work, []) == []
    assert value(work, "SELECT count(*) FROM run WHERE token IS NOT NULL") == 2
