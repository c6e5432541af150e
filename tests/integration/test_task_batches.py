"""Batches: whatever way a task comes in, it is checked by the same rules and stored the same."""

import json
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.database import Pool
from cluster.nudge import nudge
from cluster.store import tasks
from tests.integration.builders import TaskWeb, a_kind, execute, query, together, value
from webapp.tasks import _enqueue_together

LATER = "2030-01-01T00:00:00Z"
TASKS: dict[str, dict[str, Any]] = {
    "least": {},
    "all": {
        "args": {"note": "x", "factor": 1.5},
        "processing_time": 3,
        "priority": -5,
        "run_at": LATER,
        "max_retries": 0,
        "deadline": "2030-01-02T00:00:00Z",
    },
    "nulls": dict.fromkeys(("processing_time", "priority", "run_at", "max_retries", "deadline")),
    "no-arguments": {"args": {}},
    "an-argument": {"args": {"processing_time": 3}},
    "a-processing-time": {"processing_time": 3},
    "other-zone": {"run_at": "2030-01-01T01:00:00.123456+01:00"},
    "only-a-deadline": {"deadline": "2030-01-01 00:00:00z"},
    "no-priority": {"priority": 0},
    "other-kind": {"kind": "processing", "args": {"note": "x"}},
    "odd-name": {"name": "☃ \" ' \\ %s {} \n\t\u0001 null"},
    "odd-arguments": {"args": {"note": '\\"{},', "more": {"": [None, 1e300, -0.5, {"a": []}]}}},
    "large-number": {"args": {"more": {"n": 2**64 - 1}}},
}
CHOICES: dict[str, list[Any]] = {
    "name": ["n", "", "n" * 201, 5, None],
    "kind": ["work", "processing", "none", 5],
    "args": [{}, {"note": "x"}, {"note": 5}, {"processing_time": 1}, {"more": {"n": 2**70}}, None],
    "processing_time": [1, 2**70, "1", True, None],
    "priority": [5, 101, "5", None],
    "run_at": [LATER, "2030-01-01", 1893456000, "1969-12-31T23:59:59Z", None],
    "deadline": ["2030-01-01T00:30:00Z", "2030-01-01T00:30:00+01:00", "x", None],
    "max_retries": [0, 101, 1.0, None],
    "idempotency_key": ["k", "", "é", None],
    "colour": ["red"],
}


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application over this test's own database, with kinds of two priorities."""
    return TaskWeb(pool, a_kind(name="processing"), a_kind(priority=7))


def rows(pool: Pool) -> list[tuple[Any, ...]]:
    """Return the tasks in the order of their ids, with all that does not tell when they came."""
    return query(
        pool,
        "SELECT job, scheduled, name, args::text, priority, max_retries, start_by, spread, attempt,"
        " token, CASE WHEN due_at > '2029-01-01' THEN due_at END,"
        " CASE WHEN not_before > '2029-01-01' THEN not_before END FROM run ORDER BY id",
    )


def forget(pool: Pool) -> None:
    """Remove all tasks and keys."""
    execute(pool, "DELETE FROM run")
    execute(pool, "DELETE FROM task_key")


def test_a_task_is_stored_the_same_alone_and_in_a_batch_with_and_without_keys(
    web: TaskWeb, pool: Pool
) -> None:
    bodies = [{"name": "n", "kind": "work", **fields} for fields in TASKS.values()]
    for body in bodies:
        assert web.post("/tasks", body).status == 201
    alone = rows(pool)
    forget(pool)
    assert web.post("/tasks/batch", bodies).status == 201
    assert rows(pool) == alone
    forget(pool)
    keyed = [{**body, "idempotency_key": name} for name, body in zip(TASKS, bodies, strict=True)]
    assert web.post("/tasks/batch", keyed).status == 201
    assert rows(pool) == alone
    forget(pool)
    assert web.post("/tasks/batch", [*bodies[:-1], keyed[-1]]).status == 201
    assert rows(pool) == alone


def test_tasks_that_meet_are_stored_together_and_each_is_told_its_own(
    web: TaskWeb, pool: Pool
) -> None:
    def post(number: int) -> list[tuple[str, str]]:
        names = [f"{number}-{place}" for place in range(20)]
        return [(web.task(name=name).body["task_id"], name) for name in names]

    told = [each for some in together(12, post) for each in some]
    assert sorted(told) == sorted(query(pool, "SELECT id::text, name FROM run"))
    assert value(pool, "SELECT count(DISTINCT xmin::text) FROM run") < len(told)


def test_what_cant_be_stored_spoils_nothing_for_those_that_came_with_it(
    web: TaskWeb, pool: Pool
) -> None:
    good: dict[str, Any] = {"name": "good", "kind": "work", "args": {}}
    with pool.connection() as connection:
        asked = [good, {**good, "priority": 10**6}, {**good, "name": "too"}]
        made = _enqueue_together(connection, None, asked)
    assert [type(each) for each in made] == [
        tasks.Made,
        psycopg.errors.NumericValueOutOfRange,
        tasks.Made,
    ]
    assert query(pool, "SELECT name FROM run ORDER BY id") == [("good",), ("too",)]
    assert web.get("/tasks").status == 200


@pytest.mark.parametrize("name", TASKS)
def test_a_key_is_one_for_a_task_alone_and_in_a_batch(web: TaskWeb, pool: Pool, name: str) -> None:
    body = {"name": "n", "kind": "work", **TASKS[name], "idempotency_key": "k"}
    alone = web.post("/tasks", body)
    assert web.post("/tasks/batch", [body, body]).body == [alone.body] * 2
    assert value(pool, "SELECT count(*) FROM run") == 1


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_batch_is_refused_with_the_words_that_a_task_alone_is(
    web: TaskWeb, pool: Pool, data: st.DataObject
) -> None:
    names = data.draw(st.sets(st.sampled_from(list(CHOICES)), max_size=3))
    drawn = {name: data.draw(st.sampled_from(CHOICES[name])) for name in sorted(names)}
    body = {"name": "n", "kind": "work", **drawn}
    forget(pool)
    alone, stored = web.post("/tasks", body), rows(pool)
    forget(pool)
    batch = web.post("/tasks/batch", [{"name": "good", "kind": "work"}, body])
    assert batch.status == alone.status
    if alone.status == 201:
        assert rows(pool)[1:] == stored
    else:
        expected = [
            (f"tasks.1.{each['field']}".removesuffix(".body"), each["reason"])
            for each in alone.body["errors"]
        ]
        assert [(each["field"], each["reason"]) for each in batch.body["errors"]] == expected
        assert rows(pool) == []


def test_of_several_wrong_tasks_the_first_is_named(web: TaskWeb, pool: Pool) -> None:
    wrong: list[dict[str, Any]] = [{"args": {"note": 5}}, {"kind": "none"}, {"args": {"more": 1}}]
    batch = [{"name": "n", "kind": "work", **fields} for fields in ({}, *wrong, {})]
    answer = web.post("/tasks/batch", batch)
    assert [each["field"] for each in answer.body["errors"]] == ["tasks.1.args.note"]
    assert rows(pool) == []


@pytest.mark.parametrize("count", [1, 2, 1500])
def test_the_ids_of_a_batch_are_of_its_time_and_ascend(
    web: TaskWeb, pool: Pool, count: int
) -> None:
    found: list[UUID] = []
    for _ in range(2):
        before = value(pool, "SELECT date_trunc('milliseconds', clock_timestamp())")
        answer = web.post("/tasks/batch", [{"name": "n", "kind": "work"}] * count)
        after = value(pool, "SELECT clock_timestamp()")
        ids = [UUID(each["task_id"]) for each in answer.body]
        first, last = query(pool, "SELECT uuid7_time(%s), uuid7_time(%s)", ids[0], ids[-1])[0]
        assert before <= first <= last <= after
        found += ids
    assert found == sorted(set(found))
    assert {(each.version, each.variant) for each in found} == {(7, "specified in RFC 4122")}
    assert value(pool, "SELECT count(*) FROM run WHERE not_before > now()") == 0
    assert [row[0] for row in query(pool, "SELECT id FROM run ORDER BY not_before, id")] == found


def test_ten_thousand_tasks_with_arguments_of_their_own(web: TaskWeb, pool: Pool) -> None:
    numbers = range(10_000)
    batch = [{"name": f"n{n}", "kind": "work", "args": {"processing_time": n}} for n in numbers]
    answer = web.post("/tasks/batch", batch)
    assert answer.status == 201
    found = query(pool, "SELECT id, name, (args ->> 'processing_time')::int FROM run ORDER BY id")
    ids = [UUID(each["task_id"]) for each in answer.body]
    assert found == [(ids[n], f"n{n}", n) for n in numbers]


def test_a_batch_that_the_database_refuses_stores_nothing(web: TaskWeb, pool: Pool) -> None:
    assert web.kinds
    asked = [{"kind": "work", "name": "n", "priority": priority} for priority in (1, 2, 10**5)]
    for enqueue in (tasks.enqueue_many, tasks.enqueue_batch):
        with pytest.raises(psycopg.errors.NumericValueOutOfRange):
            enqueue(pool, asked)
    assert rows(pool) == []


def test_tasks_that_differ_in_what_they_say_are_no_less_whole(web: TaskWeb, pool: Pool) -> None:
    assert web.kinds
    asked: list[dict[str, Any]] = [
        {"kind": "work"},
        {"kind": "work", "args": {"note": "x"}},
        {"kind": "work"},
    ]
    tasks.enqueue_batch(pool, asked)
    assert query(pool, "SELECT name, args, priority FROM run ORDER BY id") == [
        ("work", json.loads(args), 7) for args in ("{}", '{"note": "x"}', "{}")
    ]
    assert tasks.enqueue_batch(pool, []) == []
    assert tasks.enqueue_many(pool, []) == []


@pytest.mark.parametrize("path", ["/tasks", "/tasks/batch"])
def test_a_task_for_later_wakes_nobody_and_one_for_now_does(web: TaskWeb, path: str) -> None:
    for run_at, woken in ((LATER, False), (None, True), ("2020-01-01T00:00:00Z", True)):
        nudge.clear()
        task = {"name": "n", "kind": "work", "run_at": run_at}
        assert web.post(path, task if path == "/tasks" else [task]).status == 201
        assert nudge.is_set() == woken
    nudge.clear()
    assert web.post("/tasks/batch", [{**task, "run_at": LATER}, task]).status == 201
    assert nudge.is_set()


def test_a_batch_has_no_key_of_its_own(pool: Pool) -> None:
    """Nobody is left to believe that the whole of it is done once."""
    web = TaskWeb(pool)
    batch = [{"name": "a", "kind": "work"}]
    answer = web.ask("POST", "/tasks/batch", json=batch, headers={"Idempotency-Key": "k"})
    assert (answer.status, answer.problem) == (400, "invalid-idempotency-key")
    assert value(pool, "SELECT count(*) FROM run") == 0


@pytest.mark.parametrize("path", ["/tasks", "/tasks/batch"])
def test_a_time_has_an_end(pool: Pool, path: str) -> None:
    """What was read is remembered, so it must not be a megabyte."""
    web = TaskWeb(pool)
    for digits, status in ((6, 201), (30, 201), (1_000, 422)):
        task = {"name": "a", "kind": "work", "run_at": f"2027-01-31T12:00:00.{'1' * digits}Z"}
        body = [task] if path.endswith("batch") else task
        assert web.ask("POST", path, json=body).status == status


def test_a_complaint_about_half_a_surrogate_pair_can_be_sent(pool: Pool) -> None:
    body = b'{"name": "x", "kind": "work", "args": {"\\ud800": "\\u0000"}}'
    headers = {"Content-Type": "application/json"}
    answer = TaskWeb(pool).ask("POST", "/tasks", body=body, headers=headers)
    assert (answer.status, answer.problem) == (422, "invalid-field")
