"""Reports of remote workers over HTTP: what becomes of a task, by its kind's rule."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from cluster.database import Pool
from cluster.store import leases, runs
from tests.eventually import eventually
from tests.integration.builders import (
    Answer,
    TaskWeb,
    a_kind,
    asked,
    due,
    execute,
    expire,
    outcomes,
    query,
    together,
    value,
)

CLAIM = {
    *("task_id", "kind", "name", "args", "attempt", "failures", "crashes", "max_retries"),
    *("token", "fence", "due_at", "started_at", "timeout_seconds", "lease_seconds"),
}


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application with a kind that is tried again a minute later."""
    return TaskWeb(pool, a_kind(retry_delay=60, retry_jitter=0, timeout=90), lease_seconds=30)


def claim(web: TaskWeb, **more: Any) -> list[dict[str, Any]]:
    """Claim tasks."""
    answer = web.post("/tasks/claim", {"worker": "far:1", "kinds": ["work"], **more})
    assert answer.status == 200
    found: list[dict[str, Any]] = answer.body
    return found


def one(web: TaskWeb, pool: Pool, **fields: Any) -> dict[str, Any]:
    """Return a task that was claimed."""
    asked(pool, **fields)
    (task,) = claim(web)
    return task


def say(web: TaskWeb, task: dict[str, Any], word: str, **body: Any) -> Answer:
    """Send a word about a task that was claimed."""
    return web.post(f"/tasks/{task['task_id']}/{word}", {"token": task["token"], **body})


def test_a_claim_brings_all_that_a_worker_needs(web: TaskWeb, pool: Pool) -> None:
    task = one(web, pool, name="n", args={"note": "x"})
    assert set(task) == CLAIM
    assert (task["kind"], task["name"], task["args"]) == ("work", "n", {"note": "x"})
    assert (task["attempt"], task["failures"], task["crashes"]) == (1, 0, 0)
    assert (task["timeout_seconds"], task["lease_seconds"]) == (90, 30)
    assert value(pool, "SELECT token FROM run") == UUID(task["token"])
    shown = web.shown(task["task_id"])
    assert (shown["status"], shown["worker"]) == (2, "far:1")


def test_a_claim_of_nothing_is_an_empty_array(web: TaskWeb, pool: Pool) -> None:
    assert claim(web) == []
    assert query(pool, "SELECT FROM worker") == []


def test_a_claim_takes_one_task_unless_told_otherwise(web: TaskWeb, pool: Pool) -> None:
    asked(pool, 5)
    assert [len(claim(web)), len(claim(web, limit=3))] == [1, 3]


def test_a_task_that_is_done_shows_its_result(web: TaskWeb, pool: Pool) -> None:
    task = one(web, pool)
    answer = say(web, task, "complete", result={"a": [1, None, "☃"]})
    assert (answer.status, answer.body["status"]) == (200, 3)
    assert answer.body["result"] == {"a": [1, None, "☃"]}
    assert answer.body == web.shown(task["task_id"])


@pytest.mark.parametrize("word", ["complete", "release"])
def test_a_word_that_comes_twice_is_answered_twice(web: TaskWeb, pool: Pool, word: str) -> None:
    task = one(web, pool)
    first, second = (say(web, task, word) for _ in range(2))
    assert (first.status, first.body) == (200, second.body)
    assert len(outcomes(pool, "work")) == 1


def test_a_failure_that_comes_twice_counts_once(web: TaskWeb, pool: Pool) -> None:
    task = one(web, pool)
    answers = [say(web, task, "fail", error="no") for _ in range(2)]
    assert [a.status for a in answers] == [200, 200]
    assert query(pool, "SELECT failures, attempt FROM run") == [(1, 1)]


def test_a_failure_is_tried_again_by_the_rule_of_its_kind(web: TaskWeb, pool: Pool) -> None:
    task = one(web, pool)
    answer = say(web, task, "fail", error="no", traceback="at line 1")
    assert (answer.body["status"], answer.body["error"]) == (1, "no")
    waits = value(pool, "SELECT r.not_before - h.finished_at FROM run r, history h")
    assert waits == timedelta(seconds=60)
    assert query(pool, "SELECT outcome, error, traceback FROM history") == [
        ("failed", "no", "at line 1")
    ]
    for failures in (1, 2):
        due(pool)
        (task,) = claim(web)
        assert task["failures"] == failures
        answer = say(web, task, "fail", error="no")
    assert (answer.body["status"], answer.body["failures"]) == (4, 3)
    assert query(pool, "SELECT FROM run") == []


def test_a_failure_may_say_when_to_try_again(web: TaskWeb, pool: Pool) -> None:
    say(web, one(web, pool), "fail", error="busy", retry_in=0)
    assert [task["attempt"] for task in claim(web)] == [2]


def test_a_failure_may_be_final(web: TaskWeb, pool: Pool) -> None:
    answer = say(web, one(web, pool), "fail", error="no such customer", final=True, retry_in=5)
    assert (answer.body["status"], answer.body["error"]) == (4, "no such customer")
    assert query(pool, "SELECT FROM run") == []


def test_a_task_with_retries_of_its_own_is_given_up_by_these(web: TaskWeb, pool: Pool) -> None:
    answer = say(web, one(web, pool, max_retries=1), "fail", error="no")
    assert answer.body["status"] == 4


def test_a_death_that_a_worker_reports_counts_as_one(web: TaskWeb, pool: Pool) -> None:
    task = one(web, pool)
    for crashes in range(3):
        assert task["crashes"] == crashes
        answer = say(web, task, "fail", error="its process died", outcome="crashed")
        due(pool)
        task = next(iter(claim(web)), {})
    assert (answer.body["status"], answer.body["outcome"]) == (4, "crashed")
    assert not task


def test_a_time_out_counts_as_a_failure(web: TaskWeb, pool: Pool) -> None:
    answer = say(web, one(web, pool), "fail", error="90 s", outcome="timed_out")
    assert (answer.body["status"], answer.body["failures"]) == (1, 1)
    assert outcomes(pool, "work") == ["timed_out"]


def test_what_is_given_back_is_due_at_once_and_costs_nothing(web: TaskWeb, pool: Pool) -> None:
    answer = say(web, one(web, pool, max_retries=1), "release")
    assert (answer.status, answer.body["status"]) == (200, 1)
    (again,) = claim(web)
    assert (again["attempt"], again["failures"], again["crashes"]) == (2, 0, 0)
    assert outcomes(pool, "work") == ["interrupted"]


@pytest.mark.parametrize(("word", "more"), [("fail", {"error": "told to stop"}), ("release", {})])
def test_a_cancelled_task_ends_as_cancelled(
    web: TaskWeb, pool: Pool, word: str, more: dict[str, Any]
) -> None:
    task = one(web, pool)
    assert say(web, task, "heartbeat").body["cancelled"] is False
    assert web.ask("DELETE", f"/tasks/{task['task_id']}").status == 202
    assert say(web, task, "heartbeat", progress=0.5, sequence=1).body["cancelled"] is True
    answers = [say(web, task, word, **more) for _ in range(2)]
    assert [(a.status, a.body["outcome"]) for a in answers] == [(200, "cancelled")] * 2
    assert query(pool, "SELECT FROM run") == []
    assert outcomes(pool, "work") == ["cancelled"]


def test_a_cancelled_task_that_is_done_all_the_same_is_done(web: TaskWeb, pool: Pool) -> None:
    task = one(web, pool)
    web.ask("DELETE", f"/tasks/{task['task_id']}")
    assert say(web, task, "complete").body["status"] == 3


def test_a_cancelled_task_whose_worker_is_silent_runs_no_more(web: TaskWeb, pool: Pool) -> None:
    task = one(web, pool)
    web.ask("DELETE", f"/tasks/{task['task_id']}")
    expire(pool, value(pool, "SELECT id FROM worker"))
    leases.take_over(pool, [])
    assert claim(web) == []
    runs.drop(pool)
    assert web.shown(task["task_id"])["outcome"] == "cancelled"


@pytest.mark.parametrize(
    ("word", "more"),
    [
        ("heartbeat", {"progress": 0.5}),
        ("complete", {}),
        ("fail", {"error": "no"}),
        ("release", {}),
    ],
)
def test_a_stale_token_is_a_409_and_changes_nothing(
    web: TaskWeb, pool: Pool, word: str, more: dict[str, Any]
) -> None:
    task = one(web, pool)
    before = query(pool, "SELECT r::text, w::text FROM run r, worker w")
    answer = say(web, {**task, "token": str(uuid4())}, word, **more)
    assert (answer.status, answer.problem) == (409, "stale-token")
    assert query(pool, "SELECT r::text, w::text FROM run r, worker w") == before
    assert outcomes(pool, "work") == []


def test_a_task_of_the_cluster_itself_is_not_touched_without_its_token(
    web: TaskWeb, pool: Pool
) -> None:
    task = one(web, pool)
    execute(pool, "UPDATE run SET token = gen_random_uuid()")
    assert say(web, task, "complete").problem == "stale-token"
    assert web.shown(task["task_id"])["status"] == 2


def test_a_kind_that_is_no_longer_known_is_ended_by_the_usual_rule(pool: Pool) -> None:
    both = TaskWeb(pool, a_kind(), a_kind(name="old"))
    asked(pool, kind="old")
    (task,) = both.post("/tasks/claim", {"worker": "far:1", "kinds": ["old"]}).body
    newer = TaskWeb(pool, a_kind())
    assert say(newer, task, "fail", error="no").body["status"] == 1
    assert value(pool, "SELECT failures FROM run") == 1


def test_a_heartbeat_that_was_overtaken_says_so(web: TaskWeb, pool: Pool) -> None:
    task = one(web, pool)
    beats = [say(web, task, "heartbeat", progress=p, sequence=s) for p, s in ((0.5, 2), (0.1, 1))]
    assert [a.body["late"] for a in beats] == [False, True]
    assert web.shown(task["task_id"])["progress"] == 0.5


def test_a_claim_that_waits_is_woken_by_a_new_task(web: TaskWeb) -> None:
    def act(number: int) -> Any:
        if number:
            return claim(web, wait_seconds=20)
        return web.task().body["task_id"]

    made, claimed = together(2, act)
    assert [task["task_id"] for task in claimed] == [made]


def test_two_claims_wait_in_a_process_and_the_third_is_told_to_come_back(web: TaskWeb) -> None:
    def act(number: int) -> Any:
        if number:
            # The brief claims below may have taken its place.
            return eventually(lambda: claim(web, wait_seconds=20))
        brief = {"worker": "far:9", "kinds": ["work"], "wait_seconds": 0.01}
        refused = eventually(
            lambda: next(
                (a for a in [web.post("/tasks/claim", brief)] if "retry-after" in a.headers), None
            )
        )
        assert refused
        for _ in range(2):
            web.task()
        return refused.status, refused.body, refused.headers["retry-after"]

    refused, *claimed = together(3, act)
    assert refused == (200, [], "1")
    assert [len(tasks) for tasks in claimed] == [1, 1]
