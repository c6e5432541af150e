"""Retention: what is older than it is kept for goes by itself, whatever jobs there are."""

import pytest

from cluster.database import Pool
from cluster.store import retention
from cluster.store.retention import Dropped
from tests.eventually import eventually
from tests.integration.builders import execute, query, together, transaction
from tests.integration.hands import working
from tests.integration.partitions import days, make_day


def old_keys(pool: Pool, of_tasks: int, of_changes: int) -> None:
    """Leave keys whose day is over, and one of a task whose day is not."""
    execute(
        pool,
        "INSERT INTO task_key"
        " SELECT 'old-' || i, gen_random_uuid(), '', now() - interval '25 hours'"
        " FROM generate_series(1, %s) i",
        of_tasks,
    )
    execute(
        pool,
        "INSERT INTO idempotency (key, user_id, amount, answered_at)"
        " SELECT 'old-' || i, 1, 1, now() - interval '25 hours' FROM generate_series(1, %s) i",
        of_changes,
    )
    execute(pool, "INSERT INTO task_key VALUES ('new', gen_random_uuid(), '', now())")


def keys(pool: Pool) -> list[str]:
    """Return the keys that are left."""
    return [
        row[0] for row in query(pool, "SELECT key FROM task_key UNION SELECT key FROM idempotency")
    ]


def test_all_keys_whose_day_is_over_are_dropped(pool: Pool) -> None:
    old_keys(pool, of_tasks=2500, of_changes=1500)
    rounds = [retention.drop(pool, 30) for _ in range(3)]
    assert [each.rows for each in rounds] == [2000, 1500, 500]
    assert [each.more for each in rounds] == [True, True, False]
    assert keys(pool) == ["new"]


def test_a_minute_that_a_client_has_used_goes_once_it_is_over(pool: Pool) -> None:
    execute(
        pool,
        "INSERT INTO quota"
        " VALUES ('ada', now() + interval '1 min'), ('bob', now() - interval '1 s')",
    )
    assert retention.drop(pool, 30) == Dropped(days=0, rows=1, more=False)
    assert query(pool, "SELECT client FROM quota") == [("ada",)]


def test_a_shorter_retention_drops_ten_days_at_a_time_the_oldest_first(pool: Pool) -> None:
    for ago in range(1, 16):
        make_day(pool, -ago)
    left = len(days(pool))
    assert retention.drop(pool, 2) == Dropped(days=10, rows=0, more=True)
    assert len(days(pool)) == left - 10
    assert retention.drop(pool, 2) == Dropped(days=3, rows=0, more=False)
    assert len(days(pool)) == left - 13


def test_of_several_at_once_each_row_is_one_s(pool: Pool) -> None:
    for ago in range(3, 8):
        make_day(pool, -ago)
    old_keys(pool, of_tasks=2500, of_changes=0)
    dropped = together(5, lambda _: [retention.drop(pool, 2) for _ in range(3)])
    assert sum(each.rows for rounds in dropped for each in rounds) == 2500
    assert sum(each.days for rounds in dropped for each in rounds) == 5
    assert keys(pool) == ["new"]


def test_who_reads_the_history_puts_off_its_days_and_nothing_else(pool: Pool) -> None:
    make_day(pool, -9)
    old_keys(pool, of_tasks=1, of_changes=1)
    with transaction(pool) as (_, connection):
        connection.execute("SELECT count(*) FROM history")
        assert retention.drop(pool, 2) == Dropped(days=0, rows=2, more=False)
    assert retention.drop(pool, 2) == Dropped(days=1, rows=0, more=False)


@pytest.mark.parametrize("old_days", [1, 12])
def test_workers_drop_what_is_old_without_any_job(url: str, pool: Pool, old_days: int) -> None:
    """Whatever RONIN_JOBS names. A sample job did it once, and went with the samples."""
    for ago in range(old_days):
        make_day(pool, -40 - ago)
    recent = [each for each in days(pool) if each not in days(pool)[:old_days]]
    old_keys(pool, of_tasks=1500, of_changes=1)
    with working(url):
        eventually(lambda: keys(pool) == ["new"] and days(pool) == recent)
