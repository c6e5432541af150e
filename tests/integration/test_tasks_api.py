"""Tasks over HTTP: asked for, followed, listed."""

import re
from uuid import UUID, uuid4

import pytest

from cluster.database import Pool
from cluster.store import jobs, leases
from tests.integration.builders import (
    KIND,
    Answer,
    TaskWeb,
    a_job,
    a_kind,
    a_worker,
    asked,
    end,
    finished,
    look,
    query,
    taken,
    value,
)

CONTRACT = {
    *("task_id", "name", "processing_time", "status", "status_name", "attempt", "worker"),
    *("created_at", "started_at", "finished_at", "error", "progress"),
}
MORE = {
    *("kind", "args", "failures", "priority", "max_retries", "run_at", "deadline", "outcome"),
    *("result", "why"),
}
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application over this test's own database, with two kinds of tasks."""
    return TaskWeb(pool)


def walk(web: TaskWeb, query_string: str) -> list[list[str]]:
    """Return the ids of each page, following the links."""
    found: list[list[str]] = []
    following: str | None = query_string
    while following is not None:
        answer = web.get("/tasks", query_string=following)
        assert answer.status == 200
        found.append([row["task_id"] for row in answer.body])
        following = after(answer)
    return found


def after(answer: Answer) -> str | None:
    """Return the query of the page after this one."""
    found = re.match(r'<[^?>]*\?([^>]*)>; rel="?next"?', answer.headers.get("link", ""))
    return found and found[1]


def test_a_new_task_answers_with_its_id_and_its_place(web: TaskWeb, pool: Pool) -> None:
    answer = web.post("/tasks", {"name": "copy", "processing_time": 3})
    task = UUID(answer.body["task_id"])
    assert (answer.status, set(answer.body)) == (201, {"task_id"})
    assert answer.headers["location"] == f"/tasks/{task}"
    assert task.version == 7
    assert query(pool, "SELECT id, job, name, args FROM run") == [
        (task, "processing", "copy", {"processing_time": 3})
    ]


def test_a_new_task_has_the_fields_of_the_contract(web: TaskWeb) -> None:
    task = web.post("/tasks", {"name": "copy", "processing_time": 3}).body["task_id"]
    shown = web.shown(task)
    assert set(shown) == CONTRACT | MORE
    assert (shown["task_id"], shown["name"], shown["processing_time"]) == (task, "copy", 3)
    assert (shown["status"], shown["status_name"], shown["attempt"]) == (1, "NEW", 0)
    assert (shown["kind"], shown["args"]) == ("processing", {"processing_time": 3})
    nothing_yet = ("worker", "started_at", "finished_at", "error", "progress", "result", "outcome")
    assert [shown[field] for field in nothing_yet] == [None] * len(nothing_yet)
    assert RFC_3339.fullmatch(shown["created_at"])
    assert RFC_3339.fullmatch(shown["run_at"])


def test_what_was_asked_for_is_shown_again(web: TaskWeb) -> None:
    wishes = {
        "priority": -7,
        "max_retries": 0,
        "run_at": "2030-01-31T12:00:00Z",
        "deadline": "2030-02-01T00:00:00Z",
        "args": {"note": "☃ \\ \" '", "more": {"deep": [1, None, True, 0.5]}},
    }
    shown = web.shown(web.task(name="n" * 200, **wishes).body["task_id"])
    assert {field: shown[field] for field in wishes} == wishes
    assert (shown["name"], shown["processing_time"]) == ("n" * 200, None)


def test_a_moment_may_be_given_in_any_zone(web: TaskWeb) -> None:
    task = web.task(run_at="2030-01-31T14:30:00.5+02:30").body["task_id"]
    assert web.shown(task)["run_at"] == "2030-01-31T12:00:00.500000Z"


def test_a_task_goes_from_new_over_processing_to_completed(web: TaskWeb, pool: Pool) -> None:
    task = web.task().body["task_id"]
    (claim,) = taken(pool)
    leases.beat(pool, value(pool, "SELECT id FROM worker"), [(claim.token, 0.25)])
    shown = web.shown(task)
    assert (shown["status"], shown["status_name"], shown["attempt"]) == (2, "PROCESSING", 1)
    assert (shown["worker"], shown["progress"], shown["finished_at"]) == ("host:1", 0.25, None)
    assert RFC_3339.fullmatch(shown["started_at"])
    end(pool, claim, "completed", value='{"rows": 3}')
    over = web.shown(task)
    assert (over["status"], over["status_name"], over["attempt"]) == (3, "COMPLETED", 1)
    assert (over["result"], over["progress"], over["error"]) == ({"rows": 3}, 1, None)
    assert (over["worker"], over["started_at"]) == ("host:1", shown["started_at"])
    assert over["started_at"] <= over["finished_at"]
    same = ("task_id", "name", "kind", "args", "created_at", "priority", "max_retries")
    assert [over[field] for field in same] == [shown[field] for field in same]


def test_a_task_that_failed_for_good_is_an_error_with_its_reason(web: TaskWeb, pool: Pool) -> None:
    shown = web.shown(finished(pool, "failed", error="no such customer", traceback="secret"))
    assert (shown["status"], shown["status_name"]) == (4, "ERROR")
    assert (shown["error"], shown["failures"]) == ("no such customer", 1)
    assert "secret" not in str(shown)


def test_a_task_that_waits_for_its_second_attempt_is_new_and_says_why(
    web: TaskWeb, pool: Pool
) -> None:
    (task,) = asked(pool)
    (claim,) = taken(pool)
    end(pool, claim, "failed", error="try later")
    shown = web.shown(task)
    assert (shown["status"], shown["attempt"], shown["failures"]) == (1, 1, 1)
    assert (shown["error"], shown["worker"]) == ("try later", None)


@pytest.mark.parametrize("json", ["[]", '"text"', "0", "false", '{"a": [1.5, null]}'])
def test_a_result_comes_back_as_it_was_returned(web: TaskWeb, pool: Pool, json: str) -> None:
    shown = web.shown(finished(pool, value=json))
    assert shown["result"] == {
        "[]": [],
        '"text"': "text",
        "0": 0,
        "false": False,
        '{"a": [1.5, null]}': {"a": [1.5, None]},
    }.get(json)


def test_an_unknown_task_is_a_404_everywhere(web: TaskWeb) -> None:
    unknown = f"/tasks/{uuid4()}"
    token = {"token": str(uuid4())}
    answers = [
        web.get(unknown),
        web.ask("DELETE", unknown),
        web.post(f"{unknown}/retry"),
        web.get(f"{unknown}/attempts"),
        web.post(f"{unknown}/heartbeat", token),
        web.post(f"{unknown}/complete", token),
        web.post(f"{unknown}/fail", {**token, "error": "no"}),
        web.post(f"{unknown}/release", token),
    ]
    assert [(a.status, a.problem) for a in answers] == [(404, "unknown-task")] * len(answers)


def test_a_scheduled_run_is_no_task(web: TaskWeb, pool: Pool) -> None:
    jobs.declare(pool, [a_job()])
    run = value(pool, "SELECT id FROM run")
    assert web.get(f"/tasks/{run}").status == 404
    assert web.ask("DELETE", f"/tasks/{run}").status == 404
    assert web.get("/tasks").body == []
    assert value(pool, "SELECT start_by FROM run") is None


def test_tasks_are_listed_newest_first_whatever_their_status(web: TaskWeb, pool: Pool) -> None:
    made = [finished(pool), finished(pool, "failed"), *asked(pool, 3)]
    taken(pool, free=1)
    rows = web.get("/tasks").body
    assert [row["task_id"] for row in rows] == [str(task) for task in reversed(made)]
    assert [row["status"] for row in rows] == [1, 1, 2, 4, 3]
    assert all(set(row) == CONTRACT | MORE - {"args", "result", "why"} for row in rows)


@pytest.mark.parametrize(
    ("status", "name"), [(1, "NEW"), (2, "PROCESSING"), (3, "COMPLETED"), (4, "ERROR")]
)
def test_a_list_of_one_status_has_that_alone(
    web: TaskWeb, pool: Pool, status: int, name: str
) -> None:
    finished(pool)
    finished(pool, "failed")
    asked(pool, 2)
    taken(pool, free=1)
    found = [web.get("/tasks", params={"status": told}).body for told in (str(status), name)]
    assert [(row["status"], row["status_name"]) for row in found[0]] == [(status, name)]
    assert found[0] == found[1]


def test_pages_show_each_task_once_even_if_tasks_move_between_them(
    web: TaskWeb, pool: Pool
) -> None:
    made = {str(task) for task in asked(pool, 40)}
    worker = a_worker(pool, names=["work"])
    seen: list[str] = []
    following: str | None = "limit=7"
    while following is not None:
        answer = web.get("/tasks", query_string=following)
        seen += [row["task_id"] for row in answer.body]
        following = after(answer)
        # Between two pages: some start, some end, one comes back, and new ones are asked for.
        said = ["completed", "failed", "interrupted"]
        for place, claim in enumerate(look(pool, worker, names=["work"], free=6).claims):
            end(pool, claim, said[place % 3], final=True)
        asked(pool)
    assert len(seen) == len(set(seen)) == 40
    assert set(seen) == made
    assert seen == sorted(seen, reverse=True)


def test_a_walk_keeps_its_status_and_its_limit(web: TaskWeb, pool: Pool) -> None:
    wanted = [str(finished(pool, "failed")) for _ in range(5)]
    finished(pool)
    asked(pool, 5)
    found = walk(web, "limit=2&status=ERROR")
    assert [len(page) for page in found] == [2, 2, 1]
    assert [task for page in found for task in page] == wanted[::-1]


def test_a_walk_keeps_its_kind(web: TaskWeb, pool: Pool) -> None:
    wanted = [str(finished(pool)), *map(str, asked(pool, 4))]
    asked(pool, 5, kind="processing")
    found = walk(web, f"limit=2&kind={KIND}")
    assert [task for page in found for task in page] == wanted[::-1]
    assert walk(web, f"limit=2&kind={KIND}&status=COMPLETED") == [wanted[:1]]
    assert walk(web, "kind=nosuch") == [[]]


def test_a_page_has_a_hundred_tasks_unless_told_otherwise(web: TaskWeb, pool: Pool) -> None:
    asked(pool, 150)
    assert [len(page) for page in walk(web, "")] == [100, 50]
    assert [len(page) for page in walk(web, "limit=1000")] == [150]


def test_attempts_are_told_without_tracebacks(web: TaskWeb, pool: Pool) -> None:
    task = finished(pool, "failed", error="no", traceback="a secret of the operator")
    answer = web.get(f"/tasks/{task}/attempts")
    (attempt,) = answer.body
    assert (attempt["attempt"], attempt["outcome"], attempt["error"]) == (1, "failed", "no")
    assert attempt["duration_seconds"] >= 0
    assert "traceback" not in attempt
    assert "secret" not in str(answer.body)


def test_kinds_tell_what_they_take(web: TaskWeb, pool: Pool) -> None:
    apart = {"isolation": "process", "memory_mib": 64}
    jobs.declare(pool, [a_kind(name="narrow", max_running=2, remote=True, **apart), a_job()])
    kinds = {kind["name"]: kind for kind in web.get("/kinds").body}
    assert sorted(kinds) == ["narrow", "processing", "work"]
    narrow = kinds["narrow"]
    assert (narrow["max_running"], narrow["paused"]) == (2, False)
    assert narrow["settings"]["remote"] is True
    assert {name: narrow["settings"][name] for name in apart} == apart
    assert narrow["args"]["properties"]["processing_time"]["type"] == "integer"
    assert narrow["description"] == "Take arguments of many types, and do nothing."


def test_a_kind_gives_its_tasks_their_priority(pool: Pool) -> None:
    web = TaskWeb(pool, a_kind(priority=42))
    tasks = [web.task().body["task_id"], web.task(priority=0).body["task_id"]]
    assert [web.shown(task)["priority"] for task in tasks] == [42, 0]


def test_head_and_options_of_tasks_are_answered(web: TaskWeb) -> None:
    assert (web.ask("HEAD", "/tasks").status, web.ask("HEAD", "/tasks").body) == (200, "")
    for path, allowed in (("/tasks", "GET"), ("/tasks/batch", "POST"), ("/tasks/claim", "POST")):
        answer = web.ask("PUT", path)
        assert (answer.status, answer.problem) == (405, "method-not-allowed")
        assert allowed in answer.headers["allow"]
