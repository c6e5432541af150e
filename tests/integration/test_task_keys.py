"""Keys and batches: a request that comes twice makes one task, a batch makes all or none."""

import itertools
from typing import Any
from uuid import UUID

import pytest

from cluster.database import Pool
from tests.integration.builders import TaskWeb, query, taken, together, value

KEY = "an order, 17"


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application over this test's own database, with two kinds of tasks."""
    return TaskWeb(pool)


def stored(pool: Pool) -> tuple[int, int]:
    """Return how many tasks and keys there are."""
    tasks, keys = query(pool, "SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM task_key)")[
        0
    ]
    return tasks, keys


def post(web: TaskWeb, place: str, **fields: Any) -> Any:
    """Ask for a task with the key in the header or in the body."""
    body = {"name": "n", "kind": "work", **fields}
    if place == "header":
        return web.post("/tasks", body, key=KEY)
    return web.post("/tasks", {**body, "idempotency_key": KEY})


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.product(("header", "field"), repeat=2)), ids="-".join
)
def test_the_same_request_again_is_the_same_task(
    web: TaskWeb, pool: Pool, first: str, second: str
) -> None:
    answers = [post(web, place, processing_time=2) for place in (first, second)]
    assert answers[0].status == answers[1].status == 201
    assert answers[0].body == answers[1].body
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert stored(pool) == (1, 1)


def test_a_key_in_both_places_is_one_key(web: TaskWeb, pool: Pool) -> None:
    body = {"name": "n", "kind": "work", "idempotency_key": KEY}
    answers = [web.post("/tasks", body, key=KEY), post(web, "header")]
    assert answers[0].body == answers[1].body
    assert stored(pool) == (1, 1)


def test_two_keys_that_differ_are_refused(web: TaskWeb, pool: Pool) -> None:
    body = {"name": "n", "kind": "work", "idempotency_key": "another"}
    answer = web.post("/tasks", body, key=KEY)
    assert (answer.status, answer.problem) == (422, "invalid-field")
    assert answer.body["errors"][0]["field"] == "idempotency_key"
    assert stored(pool) == (0, 0)


@pytest.mark.parametrize(
    "other",
    [
        {"name": "other"},
        {"kind": "processing"},
        {"args": {"note": "x"}},
        {"processing_time": 1},
        {"priority": 1},
        {"max_retries": 1},
        {"run_at": "2030-01-01T00:00:00Z"},
        {"deadline": "2030-01-01T00:00:00Z"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_request_under_the_same_key_is_a_422(
    web: TaskWeb, pool: Pool, other: dict[str, Any]
) -> None:
    post(web, "header")
    before = query(pool, "SELECT r::text, k::text FROM run r, task_key k")
    answer = post(web, "header", **other)
    assert (answer.status, answer.problem) == (422, "idempotency-key-reused")
    assert query(pool, "SELECT r::text, k::text FROM run r, task_key k") == before


def test_a_request_is_the_same_however_it_is_written(web: TaskWeb, pool: Pool) -> None:
    same: list[dict[str, Any]] = [
        {"args": {"processing_time": 2, "note": "x"}, "run_at": "2030-01-01T00:00:00Z"},
        {"args": {"note": "x"}, "processing_time": 2, "run_at": "2030-01-01T01:00:00+01:00"},
        {"args": {"note": "x", "processing_time": 2}, "run_at": "2029-12-31T23:00:00.0-01:00"},
    ]
    assert len({post(web, "header", **fields).body["task_id"] for fields in same}) == 1
    assert stored(pool) == (1, 1)


def test_a_key_keeps_its_task_when_that_is_over(web: TaskWeb, pool: Pool) -> None:
    first = post(web, "header").body
    web.ask("DELETE", f"/tasks/{first['task_id']}")
    assert post(web, "header").body == first
    assert stored(pool) == (0, 1)


def test_without_a_key_each_request_is_a_task(web: TaskWeb, pool: Pool) -> None:
    assert len({web.task().body["task_id"] for _ in range(3)}) == 3
    assert stored(pool) == (3, 0)


def test_twins_at_one_moment_make_one_task(web: TaskWeb, pool: Pool) -> None:
    for round_ in range(10):
        body = {"name": "n", "kind": "work", "idempotency_key": f"k{round_}"}

        def twin(_: int, body: dict[str, Any] = body) -> tuple[int, str]:
            answer = web.post("/tasks", body)
            return answer.status, answer.body["task_id"]

        found = together(5, twin)
        assert len(set(found)) == 1
        assert found[0][0] == 201
    assert stored(pool) == (10, 10)


def test_twins_that_differ_make_the_task_of_one_of_them(web: TaskWeb, pool: Pool) -> None:
    for round_ in range(10):
        key = f"k{round_}"

        def twin(number: int, key: str = key) -> int:
            return web.task(name=f"n{number}", idempotency_key=key).status

        assert sorted(together(4, twin)) == [201, 422, 422, 422]
    assert stored(pool) == (10, 10)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_batch_answers_with_the_ids_in_its_order(web: TaskWeb, pool: Pool, wrapped: bool) -> None:
    batch = [{"name": f"n{n}", "kind": "work", "processing_time": n} for n in range(50)]
    answer = web.post("/tasks/batch", {"tasks": batch} if wrapped else batch)
    assert answer.status == 201
    ids = [UUID(each["task_id"]) for each in answer.body]
    assert query(pool, "SELECT id, name FROM run ORDER BY (args ->> 'processing_time')::int") == [
        (task, f"n{place}") for place, task in enumerate(ids)
    ]
    assert [claim.id for claim in taken(pool, free=50)] == ids == sorted(ids)


def test_a_batch_with_one_wrong_task_stores_nothing_and_names_it(web: TaskWeb, pool: Pool) -> None:
    good = {"name": "n", "kind": "work", "idempotency_key": "k"}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"name": ""}, "tasks.2.name"),
        ({"kind": "none"}, "tasks.2.kind"),
        ({"processing_time": "3"}, "tasks.2.processing_time"),
        ({"args": {"note": 5}}, "tasks.2.args.note"),
        ({"args": {"nothing": 5}}, "tasks.2.args.nothing"),
        ({"colour": "red"}, "tasks.2.colour"),
    ]
    for change, field in wrong:
        batch = [good, {**good, "idempotency_key": "j"}, {"name": "n", "kind": "work", **change}]
        answer = web.post("/tasks/batch", batch)
        assert (answer.status, answer.problem) == (422, "invalid-field")
        assert [each["field"] for each in answer.body["errors"]] == [field]
        assert stored(pool) == (0, 0)


def test_a_batch_names_everything_that_is_wrong_with_its_fields(web: TaskWeb) -> None:
    answer = web.post("/tasks/batch", [{"name": ""}, {"name": "n"}, {"name": "n", "priority": 101}])
    assert [each["field"] for each in answer.body["errors"]] == ["tasks.0.name", "tasks.2.priority"]


def test_a_batch_that_reuses_a_key_stores_nothing_and_names_the_task(
    web: TaskWeb, pool: Pool
) -> None:
    post(web, "header")
    batch = [{"name": "new", "kind": "work"} for _ in range(3)]
    answer = web.post("/tasks/batch", [*batch, {**batch[0], "idempotency_key": KEY}])
    assert (answer.status, answer.problem) == (422, "idempotency-key-reused")
    assert answer.body["place"] == 3
    assert stored(pool) == (1, 1)


def test_a_batch_again_is_the_same_tasks(web: TaskWeb, pool: Pool) -> None:
    batch = [{"name": "n", "kind": "work", "idempotency_key": f"k{n}"} for n in range(20)]
    first = web.post("/tasks/batch", batch[:15])
    again = web.post("/tasks/batch", batch)
    assert again.body[:15] == first.body
    assert len({each["task_id"] for each in again.body}) == 20
    assert stored(pool) == (20, 20)


def test_one_key_twice_in_a_batch_is_one_task(web: TaskWeb, pool: Pool) -> None:
    task = {"name": "n", "kind": "work", "idempotency_key": KEY}
    answer = web.post("/tasks/batch", [task, task])
    assert answer.body[0] == answer.body[1]
    assert stored(pool) == (1, 1)
    other = [{**task, "idempotency_key": "k"}, {**task, "idempotency_key": "k", "name": "other"}]
    assert web.post("/tasks/batch", other).problem == "idempotency-key-reused"
    assert stored(pool) == (1, 1)


def test_batches_at_once_with_keys_in_opposite_orders_agree(web: TaskWeb, pool: Pool) -> None:
    batch = [{"name": "n", "kind": "work", "idempotency_key": f"k{n}"} for n in range(200)]

    def send(number: int) -> dict[str, str]:
        mine = batch if number else batch[::-1]
        answer = web.post("/tasks/batch", mine)
        assert answer.status == 201
        ids = [each["task_id"] for each in answer.body]
        return dict(zip([task["idempotency_key"] for task in mine], ids, strict=True))

    one, other = together(2, send)
    assert one == other
    assert stored(pool) == (200, 200)


@pytest.mark.timeout(120)
def test_ten_thousand_tasks_are_a_batch(web: TaskWeb, pool: Pool) -> None:
    answer = web.post("/tasks/batch", [{"name": "n", "kind": "work"}] * 10_000)
    assert answer.status == 201
    ids = [each["task_id"] for each in answer.body]
    assert len(set(ids)) == 10_000
    assert ids == sorted(ids)
    assert value(pool, "SELECT count(*) FROM run") == 10_000


@pytest.mark.parametrize("count", [0, 10_001])
def test_a_batch_has_from_one_to_ten_thousand_tasks(web: TaskWeb, pool: Pool, count: int) -> None:
    answer = web.post("/tasks/batch", [{"name": "n", "kind": "work"}] * count)
    assert (answer.status, answer.problem) == (422, "invalid-field")
    assert answer.body["errors"][0]["field"] == "tasks"
    assert str(count) in answer.body["detail"]
    assert stored(pool) == (0, 0)
