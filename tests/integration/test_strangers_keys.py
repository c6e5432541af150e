"""Idempotency keys: however many there are, none outlives its day for long."""

from cluster import Run
from cluster.database import Pool
from jobs import history
from tests.integration.builders import execute, query
from tests.unit.builders import a_claim


def test_all_keys_whose_day_is_over_are_dropped(pool: Pool) -> None:
    execute(
        pool,
        "INSERT INTO task_key"
        " SELECT 'old-' || i, gen_random_uuid(), '', now() - interval '25 hours'"
        " FROM generate_series(1, 2500) i",
    )
    execute(
        pool,
        "INSERT INTO idempotency (key, user_id, amount, answered_at)"
        " SELECT 'old-' || i, 1, 1, now() - interval '25 hours' FROM generate_series(1, 1500) i",
    )
    execute(pool, "INSERT INTO task_key VALUES ('new', gen_random_uuid(), '', now())")
    run = Run(a_claim(job="drop-history"), pool.connection)
    assert history.drop_keys(run) == 4000
    assert query(pool, "SELECT key FROM task_key") == [("new",)]
    assert query(pool, "SELECT key FROM idempotency") == []
