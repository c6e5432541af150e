"""Changes of tasks over HTTP: cancelled, and tried again."""

import pytest

from cluster.database import Pool
from cluster.store import runs
from tests.integration.builders import (
    TaskWeb,
    a_kind,
    asked,
    beside,
    due,
    end,
    ended,
    finished,
    look,
    outcomes,
    taken,
    together,
    transaction,
    value,
)


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application over this test's own database, with two kinds of tasks."""
    return TaskWeb(pool)


def test_what_waits_is_cancelled_at_once(web: TaskWeb, pool: Pool) -> None:
    (task,) = asked(pool)
    answer = web.ask("DELETE", f"/tasks/{task}")
    assert (answer.status, answer.body["status"], answer.body["error"]) == (200, 4, "cancelled")
    assert web.shown(task) == answer.body
    assert taken(pool) == []
    assert outcomes(pool, "work") == ["cancelled"]


def test_what_runs_is_told_to_stop(web: TaskWeb, pool: Pool) -> None:
    (task,) = asked(pool)
    (claim,) = taken(pool)
    answer = web.ask("DELETE", f"/tasks/{task}")
    assert (answer.status, answer.body["status"]) == (202, 2)
    worker = value(pool, "SELECT id FROM worker")
    assert look(pool, worker, names=["work"]).cancelled == [claim.token]
    end(pool, claim, "cancelled", error="told to stop")
    assert (web.shown(task)["status"], web.shown(task)["outcome"]) == (4, "cancelled")


def test_cancelling_a_running_task_twice_is_once(web: TaskWeb, pool: Pool) -> None:
    (task,) = asked(pool)
    taken(pool)
    assert [web.ask("DELETE", f"/tasks/{task}").status for _ in range(2)] == [202, 202]


def test_a_cancel_that_waits_for_a_claim_tells_its_worker(web: TaskWeb, pool: Pool) -> None:
    (task,) = asked(pool)
    with transaction(pool) as (lent, _):
        (claim,) = taken(lent)
        cancelled = beside(pool, lambda: web.ask("DELETE", f"/tasks/{task}"))
    assert cancelled().status == 202
    worker = value(pool, "SELECT id FROM worker")
    assert look(pool, worker, names=["work"]).cancelled == [claim.token]


def test_an_error_that_is_tried_again_goes_on_counting(web: TaskWeb, pool: Pool) -> None:
    task = finished(pool, "failed", error="first")
    answer = web.post(f"/tasks/{task}/retry")
    assert (answer.status, answer.body["task_id"]) == (202, str(task))
    assert (answer.body["status"], answer.body["attempt"], answer.body["failures"]) == (1, 1, 0)
    (claim,) = taken(pool)
    assert (claim.id, claim.attempt) == (task, 2)
    end(pool, claim, "completed")
    assert (web.shown(task)["status"], web.shown(task)["attempt"]) == (3, 2)
    found = web.get(f"/tasks/{task}/attempts").body
    assert [(each["attempt"], each["outcome"]) for each in found] == [
        (1, "failed"),
        (2, "completed"),
    ]
    assert len(web.get("/tasks").body) == 1


def test_a_task_that_is_tried_again_keeps_what_was_asked_for(web: TaskWeb, pool: Pool) -> None:
    wishes = {"priority": 9, "max_retries": 1, "args": {"note": "x"}}
    task = web.task(name="keep", **wishes).body["task_id"]
    (claim,) = taken(pool)
    end(pool, claim, "failed")
    shown = web.post(f"/tasks/{task}/retry").body
    assert {field: shown[field] for field in wishes} == wishes
    assert shown["name"] == "keep"


@pytest.mark.parametrize("outcome", ["cancelled", "timed_out", "crashed"])
def test_whatever_made_the_error_it_may_be_tried_again(
    web: TaskWeb, pool: Pool, outcome: str
) -> None:
    (task,) = asked(pool, max_retries=0)
    (claim,) = taken(pool)
    runs.finish(pool, [ended(pool, claim, outcome, job=a_kind(retry_delay=0))])
    while value(pool, "SELECT count(*) FROM run"):
        due(pool)
        (claim,) = taken(pool)
        runs.finish(pool, [ended(pool, claim, outcome, job=a_kind(retry_delay=0))])
    assert web.post(f"/tasks/{task}/retry").status == 202
    assert [claim.id for claim in taken(pool)] == [task]


def test_only_an_error_is_tried_again(web: TaskWeb, pool: Pool) -> None:
    done = finished(pool)
    running, waiting = asked(pool, 2)
    taken(pool, free=1)
    answers = [web.post(f"/tasks/{task}/retry") for task in (done, running, waiting)]
    assert [(a.status, a.problem) for a in answers] == [(409, "task-not-failed")] * 3
    assert value(pool, "SELECT count(*) FROM run") == 2


def test_many_who_try_again_at_once_make_one_run(web: TaskWeb, pool: Pool) -> None:
    for _ in range(5):
        path = f"/tasks/{finished(pool, 'failed')}/retry"

        def retry(_: int, path: str = path) -> int:
            return web.post(path).status

        assert sorted(together(4, retry)) == [202, 409, 409, 409]
        assert len(taken(pool)) == 1
