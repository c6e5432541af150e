"""Enqueueing from any application: in its own transaction, by SQL or with our function."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest

import cluster
from cluster.database import Pool
from cluster.perform import perform
from cluster.run import Run
from cluster.store import jobs, runs
from tests.integration.builders import (
    TaskWeb,
    a_job,
    a_kind,
    beside,
    ended,
    execute,
    query,
    taken,
    together,
    value,
)

KEY = "an order, 17"
LATER = datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def kinds(pool: Pool) -> Pool:
    """Return a pool on a database with a kind of tasks, `work`, and a job, `tick`."""
    jobs.declare(pool, [a_kind(priority=7), a_job(at_once=False)])
    return pool


@pytest.fixture
def client(kinds: Pool, url: str) -> Iterator[psycopg.Connection[Any]]:
    """Return a connection of somebody else's application."""
    assert kinds
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


def stored(pool: Pool) -> tuple[Any, ...]:
    """Return how many tasks and how many keys there are."""
    return query(
        pool,
        "SELECT (SELECT count(*) FROM run WHERE NOT scheduled), (SELECT count(*) FROM task_key)",
    )[0]


def sqlstate(client: psycopg.Connection[Any], text: LiteralString) -> str | None:
    """Return the SQLSTATE of the error that a statement makes."""
    with pytest.raises(psycopg.Error) as refused, client.transaction():
        client.execute(text)
    return refused.value.sqlstate


def test_a_task_exists_if_the_transaction_commits(
    kinds: Pool, client: psycopg.Connection[Any]
) -> None:
    row = client.execute("SELECT enqueue('work', '{\"processing_time\": 3}')").fetchone()
    assert stored(kinds) == (0, 0)
    assert taken(kinds) == []
    client.commit()
    (claim,) = taken(kinds)
    assert row == (claim.id,)
    assert (claim.job, claim.name, claim.args) == ("work", "work", '{"processing_time": 3}')


def test_a_task_does_not_exist_if_the_transaction_is_rolled_back(
    kinds: Pool, client: psycopg.Connection[Any]
) -> None:
    client.execute("SELECT enqueue('work', idempotency_key => 'k')")
    client.execute("UPDATE users SET balance = 1")
    client.rollback()
    assert stored(kinds) == (0, 0)
    client.execute("SELECT enqueue('work', idempotency_key => 'k', name => 'another')")
    client.commit()
    assert stored(kinds) == (1, 1)


def test_a_savepoint_takes_its_tasks_along(kinds: Pool, client: psycopg.Connection[Any]) -> None:
    client.execute("SELECT enqueue('work', name => 'kept')")
    with client.transaction(force_rollback=True):
        client.execute("SELECT enqueue('work', name => 'dropped')")
    client.commit()
    assert query(kinds, "SELECT name FROM run WHERE NOT scheduled") == [("kept",)]


def test_a_task_has_what_sql_said(kinds: Pool, client: psycopg.Connection[Any]) -> None:
    client.execute(
        "SELECT enqueue(kind => 'work', args => '{\"note\": \"x\"}', name => 'n', priority => -5,"
        " run_at => '2030-01-31 12:00Z', max_retries => 0, idempotency_key => 'k',"
        " deadline => '2030-02-01Z')"
    )
    client.commit()
    rows = query(
        kinds,
        "SELECT job, args, name, priority, due_at, not_before, max_retries, start_by, attempt"
        " FROM run WHERE NOT scheduled",
    )
    deadline = datetime(2030, 2, 1, tzinfo=UTC)
    assert rows == [("work", {"note": "x"}, "n", -5, LATER, LATER, 0, deadline, 0)]
    assert query(kinds, "SELECT key FROM task_key") == [("k",)]


def test_a_task_is_otherwise_as_its_kind_says(kinds: Pool, client: psycopg.Connection[Any]) -> None:
    client.execute("SELECT enqueue('work')")
    client.commit()
    rows = query(
        kinds,
        "SELECT name, args, priority, not_before <= now(), max_retries, start_by FROM run"
        " WHERE NOT scheduled",
    )
    assert rows == [("work", {}, 7, True, None, None)]


@pytest.mark.parametrize(
    "call",
    [
        "SELECT enqueue('none')",
        "SELECT enqueue('')",
        "SELECT enqueue(NULL)",
        "SELECT enqueue('tick')",
        "SELECT enqueue('work', '[]')",
        "SELECT enqueue('work', '5')",
        "SELECT enqueue('work', 'null')",
        "SELECT enqueue('work', NULL)",
        "SELECT enqueue('work', priority => 101)",
        "SELECT enqueue('work', priority => -101)",
        "SELECT enqueue('work', priority => 2147483647)",
        "SELECT enqueue('work', max_retries => -1)",
        "SELECT enqueue('work', max_retries => 101)",
    ],
)
def test_what_makes_no_sense_is_a_22023(
    kinds: Pool, client: psycopg.Connection[Any], call: LiteralString
) -> None:
    assert sqlstate(client, call) == "22023"
    client.commit()
    assert stored(kinds) == (0, 0)


def test_an_error_says_what_is_wrong(client: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.Error, match="there is no kind of tasks 'wrok'"):
        client.execute("SELECT enqueue('wrok')")


def test_the_same_key_is_the_same_task(kinds: Pool, client: psycopg.Connection[Any]) -> None:
    ids = set()
    for _ in range(3):
        ids.add(client.execute("SELECT enqueue('work', idempotency_key => 'k')").fetchone())
        client.commit()
    assert len(ids) == 1
    assert stored(kinds) == (1, 1)


def test_a_key_of_another_task_is_a_23505(kinds: Pool, client: psycopg.Connection[Any]) -> None:
    client.execute("SELECT enqueue('work', idempotency_key => 'k')")
    client.commit()
    again: LiteralString = "SELECT enqueue('work', name => 'other', idempotency_key => 'k')"
    assert sqlstate(client, again) == "23505"
    client.commit()
    assert stored(kinds) == (1, 1)


def test_a_key_is_one_for_sql_and_for_http(kinds: Pool, client: psycopg.Connection[Any]) -> None:
    asked = TaskWeb(kinds).task(idempotency_key="k", processing_time=2).body["task_id"]
    row = client.execute(
        "SELECT enqueue('work', '{\"processing_time\": 2}', 'n', idempotency_key => 'k')"
    ).fetchone()
    assert row == (UUID(asked),)


@pytest.mark.parametrize("commits", [True, False])
def test_a_twin_waits_for_the_end_of_the_first(
    kinds: Pool, client: psycopg.Connection[Any], commits: bool
) -> None:
    row = client.execute("SELECT enqueue('work', idempotency_key => 'k')").fetchone()
    twin = beside(kinds, lambda: value(kinds, "SELECT enqueue('work', idempotency_key => 'k')"))
    if commits:
        client.commit()
    else:
        client.rollback()
    assert (row == (twin(),)) == commits
    assert stored(kinds) == (1, 1)


def test_many_twins_at_once_make_one_task(kinds: Pool) -> None:
    for key in ("a", "b", "c", "d", "e"):

        def twin(_: int, key: str = key) -> Any:
            return value(kinds, "SELECT enqueue('work', idempotency_key => %s)", key)

        assert len(set(together(6, twin))) == 1
    assert stored(kinds) == (5, 5)


def test_tasks_of_one_transaction_start_in_their_order(kinds: Pool, url: str) -> None:
    with psycopg.connect(url) as client:
        ids = [cluster.enqueue(client, "work") for _ in range(20)]
    assert ids == sorted(ids)
    assert [claim.id for claim in taken(kinds, free=20)] == ids


def test_the_ids_of_one_statement_ascend(kinds: Pool) -> None:
    rows = query(
        kinds,
        "SELECT place, id, verdict FROM enqueue_many((SELECT jsonb_agg(jsonb_build_object("
        "'kind', 'work', 'args', jsonb_build_object('processing_time', n)) ORDER BY n)"
        " FROM generate_series(1, 500) n))",
    )
    assert [row[0] for row in rows] == list(range(1, 501))
    assert {row[2] for row in rows} == {"new"}
    assert len({row[1] for row in rows}) == 500
    places = query(
        kinds,
        "SELECT (args ->> 'processing_time')::int FROM run WHERE NOT scheduled ORDER BY id",
    )
    assert [row[0] for row in places] == list(range(1, 501))


def test_an_id_tells_when_it_was_made(kinds: Pool) -> None:
    before = value(kinds, "SELECT clock_timestamp()")
    task = value(kinds, "SELECT enqueue('work')")
    after = value(kinds, "SELECT clock_timestamp()")
    slack = timedelta(milliseconds=1)
    assert before - slack <= value(kinds, "SELECT uuid7_time(%s)", task) <= after
    assert (task.version, task.variant) == (7, "specified in RFC 4122")


def test_our_function_passes_every_parameter_on(
    kinds: Pool, client: psycopg.Connection[Any]
) -> None:
    task = cluster.enqueue(
        client,
        "work",
        {"note": "☃ \" ' %s \\", "more": {"a": [1.5, None, True]}},
        name="n",
        priority=-5,
        run_at=LATER,
        max_retries=0,
        idempotency_key=KEY,
        deadline=LATER + timedelta(days=1),
    )
    assert stored(kinds) == (0, 0)
    client.commit()
    rows = query(
        kinds,
        "SELECT id, job, args, name, priority, not_before, max_retries, start_by FROM run"
        " WHERE NOT scheduled",
    )
    args = {"note": "☃ \" ' %s \\", "more": {"a": [1.5, None, True]}}
    assert rows == [(task, "work", args, "n", -5, LATER, 0, LATER + timedelta(days=1))]
    assert query(kinds, "SELECT key, task_id FROM task_key") == [(KEY, task)]


def test_our_function_takes_the_kind_alone(kinds: Pool, client: psycopg.Connection[Any]) -> None:
    task = cluster.enqueue(client, "work")
    client.commit()
    assert isinstance(task, UUID)
    assert query(kinds, "SELECT id, args, priority FROM run WHERE NOT scheduled") == [(task, {}, 7)]


def test_our_function_raises_what_the_driver_raises(client: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        cluster.enqueue(client, "none")
    client.rollback()
    cluster.enqueue(client, "work", idempotency_key=KEY)
    with pytest.raises(psycopg.errors.UniqueViolation):
        cluster.enqueue(client, "work", idempotency_key=KEY, name="other")


def test_our_function_works_inside_a_transaction_that_rolls_back(
    kinds: Pool, client: psycopg.Connection[Any]
) -> None:
    with client.transaction(force_rollback=True):
        cluster.enqueue(client, "work", idempotency_key=KEY)
    client.commit()
    assert stored(kinds) == (0, 0)


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ('{"processing_time": "3"}', "processing_time"),
        ('{"nothing": 1}', "nothing"),
        ('{"more": {}, "note": null}', "note"),
    ],
)
def test_a_wrong_argument_given_by_sql_ends_as_an_error_that_names_it(
    kinds: Pool, args: str, field: str
) -> None:
    task = value(kinds, "SELECT enqueue('work', %s::jsonb)", args)
    (claim,) = taken(kinds)
    result = perform(a_kind(), Run(claim, kinds.connection), claim.args)
    assert (result.outcome, result.final) == ("failed", True)
    runs.finish(kinds, [ended(kinds, claim, result.outcome, error=result.error, final=True)])
    shown = TaskWeb(kinds).shown(task)
    assert (shown["status"], shown["attempt"]) == (4, 1)
    assert shown["error"].startswith(f"args: {field}")


def test_a_kind_that_was_declared_away_is_asked_for_no_more(kinds: Pool) -> None:
    execute(kinds, "DELETE FROM job WHERE name = 'work'")
    with pytest.raises(psycopg.Error, match="no kind"):
        execute(kinds, "SELECT enqueue('work')")
