"""Tasks in the store: deadlines, cancels, deaths, retries, kinds side by side."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from cluster.database import Pool
from cluster.job import Job
from cluster.run import MAX_CRASHES, Claim
from cluster.store import jobs, leases, looks, runs, tasks
from tests.integration.builders import (
    HERE,
    a_job,
    a_kind,
    a_worker,
    asked,
    beside,
    due,
    ended,
    execute,
    expire,
    look,
    outcomes,
    query,
    taken,
    together,
    transaction,
    value,
)


@pytest.fixture
def work(pool: Pool) -> Pool:
    """Return a pool on this test's own database, with the kind of tasks `work`."""
    jobs.declare(pool, [a_kind()])
    return pool


def end(pool: Pool, claim: Claim, outcome: str, kind: Job | None = None, **said: Any) -> None:
    """Write how an attempt ended."""
    kind = kind or a_kind(retry_delay=0)
    (written,) = runs.finish(pool, [ended(pool, claim, outcome, job=kind, **said)])
    assert not written.fenced


def again(pool: Pool) -> Claim:
    """Make what waits due, and claim it."""
    due(pool)
    (claim,) = taken(pool)
    return claim


def test_priorities_count_across_kinds(work: Pool) -> None:
    jobs.declare(work, [a_kind(name="other")])
    wanted = []
    for priority in (50, 0, -50):
        for kind in ("other", "work") if priority else ("work", "other"):
            wanted += asked(work, 2, kind=kind, priority=priority)
    worker = a_worker(work, names=["work", "other"])
    found = [
        claim.id for _ in range(12) for claim in taken(work, "work", "other", worker=worker, free=1)
    ]
    assert found == wanted


def test_a_task_comes_before_a_scheduled_run_of_less_priority(work: Pool) -> None:
    jobs.declare(work, [a_job()])
    (low,), (high,) = asked(work, priority=-1), asked(work, priority=1)
    worker = a_worker(work, names=["work", "tick"])
    found = [taken(work, "work", "tick", worker=worker, free=1)[0] for _ in range(3)]
    assert [claim.id for claim in found][::2] == [high, low]
    assert found[1].job == "tick"


def test_what_is_due_later_holds_up_nothing_of_less_priority(work: Pool) -> None:
    asked(work, 50, priority=100, run_at="2030-01-01T00:00:00Z")
    (now,) = asked(work, priority=-100)
    assert [claim.id for claim in taken(work)] == [now]
    worker = value(work, "SELECT id FROM worker")
    found = look(work, worker, names=["work"])
    assert found.claims == []
    assert found.wake_at
    assert found.wake_at > found.now


def test_a_backlog_of_a_paused_kind_is_left_alone_and_holds_up_nobody(work: Pool) -> None:
    jobs.declare(work, [a_kind(name="other")])
    asked(work, 100, priority=100)
    jobs.change(work, "work", {"paused": True})
    mine = asked(work, 2, kind="other")
    assert [claim.id for claim in taken(work, "work", "other")] == mine
    found = look(work, value(work, "SELECT id FROM worker"), names=["work", "other"])
    assert (found.claims, found.wake_at) == ([], None)
    jobs.change(work, "work", {"paused": False})
    assert len(taken(work, free=100)) == 100


def test_a_kind_that_the_code_does_not_know_is_left_to_others(work: Pool) -> None:
    jobs.declare(work, [a_kind(name="other")])
    asked(work, 3, priority=100)
    mine = asked(work, kind="other")
    assert [claim.id for claim in taken(work, "other")] == mine
    assert len(taken(work)) == 3


def test_a_turn_finishes_and_claims_in_one_go(work: Pool) -> None:
    first, second = asked(work, 2)
    (claim,) = taken(work, free=1)
    worker = value(work, "SELECT id FROM worker")
    endings = [ended(work, claim, job=a_kind())]
    written, found = runs.turn(work, endings, looks.Ask(worker, HERE.host, ["work"], 0, 1, 0.0))
    assert [each.fenced for each in written] == [False]
    assert [each.id for each in found.claims] == [second]
    assert outcomes(work, "work") == ["completed"]
    assert query(work, "SELECT id FROM run") == [(second,)]
    assert claim.id == first


def test_a_turn_claims_what_it_makes_due_again(work: Pool) -> None:
    asked(work)
    (claim,) = taken(work)
    worker = value(work, "SELECT id FROM worker")
    ask = looks.Ask(worker, HERE.host, ["work"], 0, 1, 0.0)
    _, found = runs.turn(work, [ended(work, claim, "interrupted", job=a_kind())], ask)
    assert [(each.id, each.attempt) for each in found.claims] == [(claim.id, 2)]


def test_a_turn_claims_in_the_room_that_it_makes_under_a_limit(pool: Pool) -> None:
    kind = a_kind(max_running=1)
    jobs.declare(pool, [kind])
    _, second = asked(pool, 2)
    (claim,) = taken(pool)
    worker = value(pool, "SELECT id FROM worker")
    ask = looks.Ask(worker, HERE.host, ["work"], 0, 1, 0.0, ["work"])
    assert runs.turn(pool, [], ask)[1].claims == []
    _, found = runs.turn(pool, [ended(pool, claim, job=kind)], ask)
    assert [each.id for each in found.claims] == [second]


def test_a_turn_says_what_was_too_late_and_claims_all_the_same(work: Pool) -> None:
    asked(work, 2)
    (claim,) = taken(work, free=1)
    worker = value(work, "SELECT id FROM worker")
    execute(work, "UPDATE run SET token = gen_random_uuid() WHERE token IS NOT NULL")
    ask = looks.Ask(worker, HERE.host, ["work"], 1, 5, 0.0)
    written, found = runs.turn(work, [ended(work, claim, job=a_kind())], ask)
    assert [each.fenced for each in written] == [True]
    assert len(found.claims) == 1
    assert outcomes(work, "work") == ["fenced"]


def test_only_the_last_attempt_carries_the_task_into_the_history(work: Pool) -> None:
    asked(work, name="n", args={"note": "x"}, priority=3, max_retries=5)
    end(work, taken(work)[0], "failed", error="no")
    end(work, again(work), "completed", value='{"a": 1}')
    rows = query(
        work,
        "SELECT attempt, outcome, closing, name, args, priority, max_retries, failures, result"
        " FROM history ORDER BY attempt",
    )
    assert rows == [
        (1, "failed", False, None, None, None, None, None, None),
        (2, "completed", True, "n", {"note": "x"}, 3, 5, 1, {"a": 1}),
    ]
    assert query(work, "SELECT FROM run") == []


@pytest.mark.parametrize(("own", "attempts"), [(0, 1), (1, 1), (2, 2), (5, 5), (None, 3)])
def test_a_task_is_given_up_by_its_own_count_of_failures(
    work: Pool, own: int | None, attempts: int
) -> None:
    asked(work, max_retries=own)
    for attempt in range(1, attempts + 1):
        claim = again(work)
        assert (claim.attempt, claim.failures, claim.max_retries) == (attempt, attempt - 1, own)
        end(work, claim, "failed")
    assert outcomes(work, "work") == ["failed"] * attempts
    assert query(work, "SELECT FROM run") == []


def test_a_task_is_dropped_as_missed_once_its_deadline_has_passed(work: Pool) -> None:
    (task,) = asked(work, deadline="2020-01-01T00:00:00Z", name="late")
    (kept,) = asked(work, deadline="2030-01-01T00:00:00Z")
    assert [claim.id for claim in taken(work)] == [kept]
    worker = value(work, "SELECT id FROM worker")
    assert look(work, worker, names=["work"]).unwanted
    assert runs.drop(work) == 1
    assert not look(work, worker, names=["work"]).unwanted
    assert runs.drop(work) == 0
    rows = query(work, "SELECT run_id, outcome, attempt, closing, name, error FROM history")
    assert rows == [(task, "missed", 0, True, "late", "not started by its deadline")]


def test_a_task_that_started_in_time_may_go_on_past_its_deadline(work: Pool) -> None:
    asked(work, deadline="2030-01-01T00:00:00Z")
    (claim,) = taken(work)
    execute(work, "UPDATE run SET start_by = now() - interval '1 s'")
    assert runs.drop(work) == 0
    end(work, claim, "failed")
    assert runs.drop(work) == 0
    assert again(work).attempt == 2


def test_a_missed_task_that_is_tried_again_has_no_deadline_any_more(work: Pool) -> None:
    (task,) = asked(work, deadline="2020-01-01T00:00:00Z")
    runs.drop(work)
    assert tasks.retry(work, task)
    assert runs.drop(work) == 0
    assert [claim.id for claim in taken(work)] == [task]


def test_droppers_at_once_record_each_task_once(work: Pool) -> None:
    asked(work, 300, deadline="2020-01-01T00:00:00Z")
    assert sum(together(4, lambda _: runs.drop(work))) == 300
    assert outcomes(work, "work") == ["missed"] * 300


def test_a_backlog_of_missed_tasks_holds_up_nothing(work: Pool) -> None:
    asked(work, 100, deadline="2020-01-01T00:00:00Z", priority=100)
    (task,) = asked(work, priority=-100)
    assert [claim.id for claim in taken(work, free=1)] == [task]


@pytest.mark.parametrize("outcome", ["failed", "interrupted", "timed_out", "crashed"])
def test_a_cancelled_task_that_comes_back_runs_no_more(work: Pool, outcome: str) -> None:
    (task,) = asked(work)
    (claim,) = taken(work)
    assert tasks.cancel(work, task)
    end(work, claim, outcome)
    due(work)
    assert taken(work) == []
    assert runs.drop(work) == 1
    assert outcomes(work, "work") == [outcome, "cancelled"]
    shown = tasks.get(work, task) or {}
    assert (shown["status"], shown["error"]) == (tasks.ERROR, "cancelled")


@pytest.mark.parametrize("leaving", [False, True])
def test_a_cancelled_task_of_a_worker_that_is_gone_runs_no_more(work: Pool, leaving: bool) -> None:
    (task,) = asked(work)
    taken(work)
    worker = value(work, "SELECT id FROM worker")
    tasks.cancel(work, task)
    if leaving:
        leases.leave(work, worker)
    assert len(leases.take_over(work, [worker])) == 1
    assert taken(work) == []
    assert runs.drop(work) == 1
    assert outcomes(work, "work") == ["interrupted" if leaving else "crashed", "cancelled"]


def test_a_cancelled_task_that_is_completed_all_the_same_is_completed(work: Pool) -> None:
    (task,) = asked(work)
    (claim,) = taken(work)
    tasks.cancel(work, task)
    end(work, claim, "completed")
    assert outcomes(work, "work") == ["completed"]
    assert query(work, "SELECT FROM run") == []


def test_a_cancel_that_waits_for_a_finish_finds_what_is_left(work: Pool) -> None:
    one, other = asked(work, 2)
    claims = {claim.id: claim for claim in taken(work)}
    with transaction(work) as (lent, _):
        end(lent, claims[one], "completed")
        cancelled = beside(work, lambda: tasks.cancel(work, one))
    assert not cancelled()
    with transaction(work) as (lent, _):
        end(lent, claims[other], "failed")
        cancelled = beside(work, lambda: tasks.cancel(work, other))
    assert cancelled()
    assert query(work, "SELECT FROM run") == []
    assert outcomes(work, "work") == ["completed", "failed", "cancelled"]


def test_cancels_and_claims_at_once_lose_no_task(work: Pool) -> None:
    wanted = asked(work, 60)
    workers = [a_worker(work, names=["work"]) for _ in range(2)]

    def act(number: int) -> list[UUID]:
        if number == 2:
            return [task for task in wanted if tasks.cancel(work, task)]
        found: list[UUID] = []
        while claims := look(work, workers[number], names=["work"], free=2).claims:
            found += [claim.id for claim in claims]
        return found

    one, other, cancelled = together(3, act)
    marked = {row[0] for row in query(work, "SELECT id FROM run WHERE start_by = '-infinity'")}
    ended_at_once = {row[0] for row in query(work, "SELECT run_id FROM history")}
    assert set(cancelled) == set(wanted) == marked | ended_at_once
    assert sorted(one + other) == sorted(marked)
    assert not marked & ended_at_once


def test_a_task_of_dead_workers_never_gets_the_last_blame_from_them(work: Pool) -> None:
    asked(work)
    for crashes in (0, 1, 2, 2, 2):
        worker = a_worker(work, names=["work"])
        (claim,) = taken(work, worker=worker)
        assert claim.crashes == crashes
        assert claim.suspect == (crashes == MAX_CRASHES - 1)
        leases.take_over(work, [worker])
    assert query(work, "SELECT crashes, failures FROM run") == [(MAX_CRASHES - 1, 0)]
    assert outcomes(work, "work") == ["crashed"] * 5


def test_a_suspect_that_dies_apart_is_parked(work: Pool) -> None:
    (task,) = asked(work)
    for _ in range(MAX_CRASHES):
        end(work, again(work), "crashed", a_kind(retry_delay=0), error="its process died")
    assert query(work, "SELECT FROM run") == []
    shown = tasks.get(work, task) or {}
    assert (shown["status"], shown["outcome"], shown["attempt"]) == (tasks.ERROR, "crashed", 3)


def test_a_task_of_a_leaving_worker_is_not_blamed(work: Pool) -> None:
    asked(work)
    for _ in range(MAX_CRASHES + 2):
        worker = a_worker(work, names=["work"])
        assert taken(work, worker=worker)[0].crashes == 0
        leases.leave(work, worker)
        leases.take_over(work, [worker])
    assert outcomes(work, "work") == ["interrupted"] * (MAX_CRASHES + 2)


def test_a_remote_workers_task_is_parked_after_three_deaths_with_a_closing_row(work: Pool) -> None:
    (task,) = asked(work, name="n", args={"note": "x"}, priority=4, max_retries=9)
    for crashes in range(MAX_CRASHES):
        with work.connection() as connection:
            worker = leases.lend(connection, "remote", ["work"], 600)
        (claim,) = taken(work, worker=worker)
        assert claim.crashes == crashes
        expire(work, worker)
        assert [lost.outcome for lost in leases.take_over(work, [])] == ["crashed"]
    assert query(work, "SELECT FROM run") == []
    rows = query(
        work,
        "SELECT closing, name, args, priority, max_retries, failures FROM history ORDER BY attempt",
    )
    nothing = (False, None, None, None, None, None)
    assert rows == [nothing, nothing, (True, "n", {"note": "x"}, 4, 9, 0)]
    shown = tasks.get(work, task) or {}
    assert (shown["status"], shown["error"]) == (
        tasks.ERROR,
        "the worker died; given up after 3 deaths",
    )
    assert tasks.retry(work, task)
    assert again(work).crashes == 0


def test_a_retry_is_due_again_after_what_it_asked_for(work: Pool) -> None:
    asked(work)
    end(work, taken(work)[0], "failed", retry_in=90)
    wait = value(work, "SELECT r.not_before - h.finished_at FROM run r, history h")
    assert wait == timedelta(seconds=90)
