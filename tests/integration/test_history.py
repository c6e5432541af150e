"""History: days as partitions, dropped whole, and the ids that sort by time."""

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.database import Pool
from cluster.store import jobs, runs
from tests.integration.builders import (
    claimed,
    ended,
    execute,
    outcomes,
    query,
    together,
    transaction,
    value,
)
from tests.integration.partitions import day, days, make_day

many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2500, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


def record(pool: Pool, ago: timedelta) -> UUID:
    """Insert a row that ended so long ago."""
    run = uuid4()
    execute(
        pool,
        "INSERT INTO history (run_id, job, attempt, due_at, finished_at, outcome)"
        " VALUES (%s, 'tick', 1, now() - %s, now() - %s, 'completed')",
        run,
        ago,
        ago,
    )
    return run


def place(pool: Pool, run: UUID) -> str:
    """Return the table that holds a row."""
    name: str = value(pool, "SELECT tableoid::regclass::text FROM history WHERE run_id = %s", run)
    return name


def test_today_and_three_days_ahead_are_there_after_the_migration(pool: Pool) -> None:
    assert days(pool) == [day(pool, ahead) for ahead in range(4)]


def test_days_that_are_missing_are_made(pool: Pool) -> None:
    execute(pool, "SELECT drop_history('-10 days')")
    assert days(pool) == []
    assert jobs.prepare_history(pool) == 4
    assert jobs.prepare_history(pool) == 0
    assert days(pool) == [day(pool, ahead) for ahead in range(4)]


def test_several_that_make_days_at_once_make_each_once(pool: Pool) -> None:
    execute(pool, "SELECT drop_history('-10 days')")
    assert sum(together(5, lambda _: jobs.prepare_history(pool))) == 4


def test_a_row_lands_in_the_day_it_ended(pool: Pool) -> None:
    claim = claimed(pool)
    runs.finish(pool, [ended(pool, claim)])
    assert place(pool, claim.id) == day(pool, 0)


@pytest.mark.parametrize("ago", [timedelta(days=40), timedelta(days=-40)])
def test_a_row_of_a_day_that_is_not_there_lands_in_the_net(pool: Pool, ago: timedelta) -> None:
    assert place(pool, record(pool, ago)) == "history_default"


def test_a_day_whose_rows_are_in_the_net_stays_there(pool: Pool) -> None:
    execute(pool, "SELECT drop_history('-10 days')")
    run = record(pool, timedelta())
    assert jobs.prepare_history(pool) == 3
    assert place(pool, run) == "history_default"
    assert outcomes(pool) == ["completed"]


def test_a_day_has_the_indexes_and_checks_of_the_history(pool: Pool) -> None:
    indexes = query(
        pool,
        "SELECT count(*) FROM pg_indexes WHERE tablename = ANY (%s) GROUP BY tablename",
        ["history", *days(pool)],
    )
    own = value(pool, "SELECT count(*) FROM pg_indexes WHERE tablename = 'history'")
    assert own > 1
    assert indexes == [(own,)] * 5
    with pytest.raises(psycopg.errors.CheckViolation):
        execute(
            pool,
            "INSERT INTO history (run_id, job, attempt, due_at, finished_at, outcome)"
            " VALUES (uuid7(), 'tick', 1, now(), now(), 'lost')",
        )


def test_only_days_past_the_retention_are_dropped_and_whole(pool: Pool) -> None:
    for ahead in range(-5, 0):
        make_day(pool, ahead)
        record(pool, timedelta(days=-ahead))
    assert value(pool, "SELECT drop_history('2 days')") == 3
    assert days(pool) == [day(pool, ahead) for ahead in range(-2, 4)]
    assert len(outcomes(pool)) == 2


def test_old_rows_of_the_net_go_too(pool: Pool) -> None:
    record(pool, timedelta(days=40))
    kept = record(pool, timedelta(days=20))
    assert value(pool, "SELECT drop_history('30 days')") == 0
    assert query(pool, "SELECT run_id FROM history") == [(kept,)]


def test_nothing_is_dropped_within_the_retention(pool: Pool) -> None:
    runs.finish(pool, [ended(pool, claimed(pool))])
    assert value(pool, "SELECT drop_history('1 day')") == 0
    assert outcomes(pool) == ["completed"]


def test_a_long_query_puts_the_dropping_off(pool: Pool) -> None:
    make_day(pool, -9)
    with transaction(pool) as (_, connection):
        connection.execute("SELECT count(*) FROM history")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            execute(pool, "SELECT drop_history('2 days')")
    assert value(pool, "SELECT drop_history('2 days')") == 1


def test_days_are_of_utc_whatever_the_sessions_zone(pool: Pool) -> None:
    with pool.connection() as connection:
        connection.execute("SET timezone = 'Pacific/Kiritimati'")
        connection.execute("SELECT drop_history('-10 days')")
        connection.execute("SELECT prepare_history()")
        connection.execute("RESET timezone")
    assert days(pool) == [day(pool, ahead) for ahead in range(4)]
    assert place(pool, record(pool, timedelta())) == day(pool, 0)


@many
@given(moment=moments)
def test_an_id_is_a_uuid_of_version_7_with_its_time(shared: Pool, moment: datetime) -> None:
    made, back = query(shared, "SELECT id, uuid7_time(id) FROM uuid7(%s) AS id", moment)[0]
    assert (made.version, made.variant) == (7, RFC_4122)
    assert abs(back - moment) <= timedelta(milliseconds=1)


@many
@given(one=moments, other=moments)
def test_ids_sort_by_time(shared: Pool, one: datetime, other: datetime) -> None:
    other += (
        timedelta(milliseconds=2) if abs(one - other) < timedelta(milliseconds=2) else timedelta()
    )
    first, second = query(shared, "SELECT uuid7(%s), uuid7(%s)", one, other)[0]
    assert (first < second) == (one < other)


def test_ids_of_one_moment_are_different_ones(shared: Pool) -> None:
    found = value(shared, "SELECT count(DISTINCT uuid7(now())) FROM generate_series(1, 1000)")
    assert found == 1000
