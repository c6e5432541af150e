"""Actions: each change by a person is recorded once, with who, when and what; a refusal is not."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from cluster.database import Pool
from cluster.store import actions, jobs, retention, retries, tasks
from tests.integration.builders import (
    KIND,
    Answer,
    TaskWeb,
    a_job,
    asked,
    beside,
    execute,
    finished,
    outcomes,
    query,
    taken,
    together,
    transaction,
    value,
)
from tests.integration.forms import FORM, filled


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application over a database with a job `tick` and two kinds of tasks."""
    web = TaskWeb(pool)
    jobs.declare(pool, [a_job(at_once=False)])
    return web


def send(web: TaskWeb, path: str, **fields: str) -> Answer:
    """Send a form as a page of ours does."""
    return web.ask("POST", path, headers=FORM, body=filled(fields))


def recorded(pool: Pool) -> list[tuple[Any, ...]]:
    """Return what was recorded, oldest first, without when."""
    return query(pool, "SELECT who, what, target, detail FROM action ORDER BY id")


def test_each_change_of_a_job_is_recorded(web: TaskWeb, pool: Pool) -> None:
    """Run, pause, resume, schedule and reset stand there with what they changed."""
    run = web.post("/jobs/tick/runs").body["run_id"]
    for change in ({"paused": True}, {"paused": False}, {"schedule": "@daily"}, {"schedule": None}):
        assert web.ask("PATCH", "/jobs/tick", json=change).status == 200

    never = "0 0 1 1 *"
    assert recorded(pool) == [
        ("local", "run", "job:tick", {"run_id": run}),
        ("local", "pause", "job:tick", {}),
        ("local", "resume", "job:tick", {}),
        ("local", "schedule", "job:tick", {"from": never, "to": "@daily"}),
        ("local", "reset", "job:tick", {"from": "@daily", "to": never}),
    ]


def test_each_form_of_a_job_does_the_same_and_leads_back(web: TaskWeb, pool: Pool) -> None:
    """A form is answered by 303 to the job's page, and recorded as the API's change is."""
    for verb in ("run", "pause", "resume", "schedule", "reset"):
        fields = {"schedule": "@daily"} if verb == "schedule" else {}
        answer = send(web, f"/ui/jobs/tick/{verb}", **fields)
        assert (answer.status, answer.headers["location"]) == (303, "/ui/jobs/tick")

    assert [row[1] for row in recorded(pool)] == ["run", "pause", "resume", "schedule", "reset"]
    assert web.get("/jobs/tick").body["schedule"] == "0 0 1 1 *"


def test_two_changes_in_one_request_are_two_actions(web: TaskWeb, pool: Pool) -> None:
    """Who pauses and reschedules at once has done both."""
    web.ask("PATCH", "/jobs/tick", json={"paused": True, "schedule": "@daily"})

    assert [row[1] for row in recorded(pool)] == ["pause", "schedule"]


def test_what_changes_nothing_is_no_action(web: TaskWeb, pool: Pool) -> None:
    """To pause what is paused, or to set the schedule that is set, is fine and not recorded."""
    for _ in range(2):
        assert web.ask("PATCH", "/jobs/tick", json={"paused": True}).status == 200
        assert web.ask("PATCH", "/jobs/tick", json={"schedule": "@daily"}).status == 200

    assert len(recorded(pool)) == 2


def test_of_those_who_pause_at_once_one_has_done_it(web: TaskWeb, pool: Pool) -> None:
    """Eight presses of the same button at one moment are one action."""
    together(8, lambda _: web.ask("PATCH", "/jobs/tick", json={"paused": True}))

    assert [row[1] for row in recorded(pool)] == ["pause"]


@pytest.mark.parametrize("by_form", [False, True], ids=["API", "form"])
def test_cancel_and_retry_of_a_task_are_recorded(web: TaskWeb, pool: Pool, by_form: bool) -> None:
    """A task that is cancelled and put back has both in its record; the second time is refused."""
    (task,) = asked(pool)
    first = [
        send(web, f"/ui/runs/{task}/cancel") if by_form else web.post(f"/runs/{task}/cancel"),
        send(web, f"/ui/tasks/{task}/retry") if by_form else web.post(f"/tasks/{task}/retry"),
    ]
    again = send(web, f"/ui/tasks/{task}/retry") if by_form else web.post(f"/tasks/{task}/retry")

    assert [answer.status for answer in first] == ([303, 303] if by_form else [200, 202])
    assert again.status == 409
    assert recorded(pool) == [
        ("local", "cancel", f"run:{task}", {"job": "work"}),
        ("local", "retry", f"run:{task}", {"job": "work"}),
    ]


def test_what_was_told_to_stop_twice_was_told_once(web: TaskWeb, pool: Pool) -> None:
    """The second cancel of a task that runs changes nothing, and is not recorded."""
    (task,) = asked(pool)
    taken(pool)
    for _ in range(2):
        assert web.ask("DELETE", f"/tasks/{task}").status == 202

    assert [row[1] for row in recorded(pool)] == ["cancel"]


def test_a_firing_that_is_cancelled_is_recorded(web: TaskWeb, pool: Pool) -> None:
    """A run that a schedule has made can be cancelled too."""
    run = value(pool, "SELECT id FROM run WHERE scheduled")
    assert send(web, f"/ui/runs/{run}/cancel").headers["location"] == f"/ui/runs/{run}"

    assert recorded(pool) == [("local", "cancel", f"run:{run}", {"job": "tick"})]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PATCH", "/jobs/nosuch", {"paused": True}, 404),
        ("PATCH", "/jobs/work", {"paused": True}, 404),
        ("PATCH", "/jobs/tick", {"schedule": "61 * * * *"}, 422),
        ("PATCH", "/jobs/tick", {"schedule": "@daily", "paused": None}, 422),
        ("POST", "/jobs/nosuch/runs", None, 404),
        ("PATCH", "/kinds/tick", {"paused": True}, 404),
        ("PATCH", f"/kinds/{KIND}", {"paused": "yes"}, 422),
        ("PATCH", f"/kinds/{KIND}", {}, 422),
        ("POST", "/kinds/nosuch/retry", None, 404),
        ("POST", f"/runs/{UUID(int=1)}/cancel", None, 404),
        ("DELETE", f"/tasks/{UUID(int=1)}", None, 404),
        ("POST", f"/tasks/{UUID(int=1)}/retry", None, 404),
    ],
)
def test_a_refused_action_is_not_recorded(
    web: TaskWeb, pool: Pool, method: str, path: str, body: Any, status: int
) -> None:
    """Nothing has changed, so nobody has changed it."""
    answer = web.ask(method, path, **({} if body is None else {"json": body}))

    assert answer.status == status
    assert answer.problem
    assert recorded(pool) == []


def test_to_run_a_paused_or_running_job_is_refused_and_not_recorded(
    web: TaskWeb, pool: Pool
) -> None:
    """A button that came too late has done nothing."""
    execute(pool, "UPDATE job SET paused = true WHERE name = 'tick'")
    assert send(web, "/ui/jobs/tick/run").status == 409
    execute(pool, "UPDATE job SET paused = false")
    execute(pool, "UPDATE run SET not_before = now()")
    assert len(taken(pool, "tick", limited=False)) == 1
    assert send(web, "/ui/jobs/tick/run").status == 409

    assert recorded(pool) == []


def test_what_programs_ask_for_is_no_action(web: TaskWeb, pool: Pool) -> None:
    """Posting tasks is what the service is for; nobody administers by it."""
    web.task()
    web.post("/tasks/batch", [{"name": "n", "kind": "work"}])

    assert recorded(pool) == []


def test_a_kind_is_paused_and_resumed(web: TaskWeb, pool: Pool) -> None:
    """Tasks of a paused kind wait, and the record says since when and by whom."""
    asked(pool)
    answer = web.ask("PATCH", f"/kinds/{KIND}", json={"paused": True})
    assert (answer.status, answer.body["name"], answer.body["paused"]) == (200, "work", True)
    assert web.get(f"/kinds/{KIND}").body == answer.body
    assert taken(pool) == []
    assert send(web, f"/ui/kinds/{KIND}/resume").headers["location"] == f"/ui/kinds/{KIND}"
    assert len(taken(pool)) == 1
    assert send(web, f"/ui/kinds/{KIND}/pause").status == 303

    assert [row[1:3] for row in recorded(pool)] == [
        ("pause", "kind:work"),
        ("resume", "kind:work"),
        ("pause", "kind:work"),
    ]


def test_all_failed_tasks_of_a_kind_are_tried_again(web: TaskWeb, pool: Pool) -> None:
    """Those that failed wait again; what is over well, or of another kind, stays as it is."""
    execute(pool, "UPDATE job SET settings = settings || '{\"max_retries\": 0}'")
    failed = [finished(pool, "failed") for _ in range(3)]
    good = finished(pool)

    answer = web.post(f"/kinds/{KIND}/retry")

    assert (answer.status, answer.body) == (202, {"retried": 3, "more": False})
    assert {web.shown(task)["status"] for task in failed} == {tasks.NEW}
    assert web.shown(good)["status"] == tasks.COMPLETED
    assert web.post("/kinds/processing/retry").body["retried"] == 0
    assert send(web, f"/ui/kinds/{KIND}/retry").headers["location"] == f"/ui/kinds/{KIND}"
    assert recorded(pool) == [("local", "retry-all", "kind:work", {"retried": 3})]


def failed_tasks(pool: Pool, count: int) -> None:
    """Let that many tasks of `work` have failed, one a millisecond."""
    execute(
        pool,
        """
        INSERT INTO history (run_id, job, attempt, due_at, finished_at, outcome, closing, name,
            args, priority, failures)
        SELECT uuid7(at), 'work', 1, at, at, 'failed', true, 'n', '{}', 0, 1
        FROM (SELECT now() - n * interval '1 ms' AS at FROM generate_series(1, %s) AS n) t
        """,
        count,
    )


def test_many_failed_tasks_go_back_in_batches_and_are_one_action(web: TaskWeb, pool: Pool) -> None:
    """Each batch commits by itself, and the one action counts them all."""
    failed_tasks(pool, 25)

    assert retries.retry_all(pool, "work", "ada", batch=10) == retries.Retried(25, more=False)

    assert value(pool, "SELECT count(*) FROM run WHERE NOT scheduled") == 25
    assert value(pool, "SELECT count(*) FROM history WHERE closing") == 0
    assert recorded(pool) == [("ada", "retry-all", "kind:work", {"retried": 25})]
    assert web.get("/tasks?status=4").body == []


def test_two_who_retry_all_at_once_double_nothing(web: TaskWeb, pool: Pool) -> None:
    """Each task is put back once, by one of them, and their counts add up."""
    failed_tasks(pool, 400)

    done = together(4, lambda _: retries.retry_all(pool, "work", "ada", batch=7))

    assert sum(each.count for each in done) == 400
    assert value(pool, "SELECT count(*) FROM run WHERE NOT scheduled") == 400
    counted = "SELECT sum((detail ->> 'retried')::integer) FROM action"
    assert value(pool, counted) == 400
    assert len(web.get("/tasks?status=1&limit=1000").body) == 400


def test_retry_all_leaves_a_task_that_somebody_is_retrying(pool: Pool, web: TaskWeb) -> None:
    """Whoever holds the row puts it back; the other goes on with the rest."""
    failed_tasks(pool, 3)
    one = value(pool, "SELECT run_id FROM history ORDER BY finished_at LIMIT 1")
    with transaction(pool) as (lent, _):
        assert tasks.retry(lent, one, "ada")
        assert retries.retry_all(pool, "work", "bob").count == 2

    assert len(web.get("/tasks?status=1").body) == 3
    assert [row[:2] for row in recorded(pool)] == [("ada", "retry"), ("bob", "retry-all")]


def test_what_fails_again_meanwhile_is_not_put_back_again(web: TaskWeb, pool: Pool) -> None:
    """Retry all ends even if everything fails faster than it is put back."""
    failed_tasks(pool, 1)
    execute(pool, "UPDATE history SET finished_at = now() + interval '1 hour'")

    assert web.post(f"/kinds/{KIND}/retry").body == {"retried": 0, "more": False}
    assert recorded(pool) == []


def test_when_its_time_is_over_it_says_that_there_is_more(web: TaskWeb, pool: Pool) -> None:
    """An answer comes in seconds, whatever is left to do; asked again, it goes on."""
    failed_tasks(pool, 5)

    assert retries.retry_all(pool, "work", "ada", seconds=0) == retries.Retried(0, more=True)
    assert web.post(f"/kinds/{KIND}/retry").body == {"retried": 5, "more": False}


def test_a_change_and_its_record_are_one_transaction(pool: Pool, web: TaskWeb) -> None:
    """Whoever reads sees both or neither; what is taken back leaves no record."""
    (task,) = asked(pool)
    with transaction(pool) as (lent, connection):
        jobs.change(lent, "tick", {"paused": True}, "ada")
        jobs.run_now(lent, "tick", "ada")
        tasks.cancel(lent, task, by="ada")
        tasks.retry(lent, task, "ada")
        tasks.enqueue_many(lent, [{"kind": "work", "name": "n"}], "ada")
        assert recorded(pool) == []
        assert connection.execute("SELECT count(*) FROM action").fetchone() == (5,)
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")

    assert recorded(pool) == []
    assert web.get("/jobs/tick").body["paused"] is False
    assert outcomes(pool, "work") == []


def test_a_change_that_waits_for_another_is_recorded_as_what_it_changed(
    pool: Pool, web: TaskWeb
) -> None:
    """The second of two schedules replaces the first, and says so."""
    with transaction(pool) as (lent, _):
        jobs.change(lent, "tick", {"schedule": "@daily"}, "ada")
        second = beside(pool, lambda: jobs.change(pool, "tick", {"schedule": "@hourly"}, "bob"))
    second()

    assert [(who, detail["from"]) for who, _, _, detail in recorded(pool)] == [
        ("ada", "0 0 1 1 *"),
        ("bob", "@daily"),
    ]
    assert web.get("/jobs/tick").body["schedule"] == "@hourly"


def test_actions_are_read_newest_first_a_page_at_a_time(web: TaskWeb, pool: Pool) -> None:
    """Each action is on one page, and the last page has no link to a next one."""
    for name in ("tick", "tick", "tick"):
        with pool.connection() as connection, connection.transaction():
            actions.record(connection, "ada", "run", f"job:{name}")
    web.ask("PATCH", f"/kinds/{KIND}", json={"paused": True})

    first = web.get("/actions?limit=3")
    following = first.headers["link"].partition(">")[0].removeprefix("<")
    second = web.get(following)

    assert [each["target"] for each in first.body] == ["kind:work", "job:tick", "job:tick"]
    assert [each["what"] for each in second.body] == ["run"]
    assert "link" not in second.headers
    assert set(first.body[0]) == {"id", "at", "who", "what", "target", "detail"}
    at = datetime.fromisoformat(first.body[0]["at"])
    assert abs(at - datetime.now(UTC)) < timedelta(hours=1)


def test_actions_on_one_thing_are_found_by_its_name(web: TaskWeb, pool: Pool) -> None:
    """What was done to a job is asked for by the job, and the links go on so."""
    jobs.declare(pool, [a_job(name="other")])
    for paused in (True, False):
        web.ask("PATCH", "/jobs/tick", json={"paused": paused})
        web.ask("PATCH", "/jobs/other", json={"paused": paused})

    found = web.get("/actions?target=job:tick&limit=1")
    following = found.headers["link"].partition(">")[0].removeprefix("<")

    assert [each["what"] for each in found.body] == ["resume"]
    assert [(each["what"], each["target"]) for each in web.get(following).body] == [
        ("pause", "job:tick")
    ]


@pytest.mark.parametrize(
    "asking", ["limit=0", "cursor=1", "target=tick", "target=job:", "target=job:%00", "limit=x"]
)
def test_what_is_no_page_of_actions_is_refused(web: TaskWeb, asking: str) -> None:
    """A wrong parameter is a 400 that says which."""
    assert web.get(f"/actions?{asking}").problem == "invalid-parameter"


def test_old_actions_go_with_the_history(pool: Pool) -> None:
    """What is older than the retention can be told by its id, and is dropped."""
    for days in (29, 31):
        execute(
            pool,
            "INSERT INTO action VALUES (uuid7(now() - make_interval(days => %s)), 'ada', 'run',"
            " 'job:tick', '{}')",
            days,
        )
    assert retention.drop(pool, 30).rows == 1
    (left,) = actions.page(pool, 10)
    assert left["at"] > datetime.now(UTC) - timedelta(days=30)
