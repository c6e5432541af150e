"""A page of tasks is the same whether it is read from the newest days or from all of them."""

from itertools import product
from random import Random
from uuid import UUID

import pytest

from cluster.database import Pool
from cluster.store import search, tasks
from tests.integration.builders import execute, query

_MAKE_DAYS = """
    DO $$ BEGIN
        FOR ago IN 1..7 LOOP
            EXECUTE format('CREATE TABLE %%I PARTITION OF history FOR VALUES FROM (%%L) TO (%%L)',
                'history_' || to_char(current_date - ago, 'YYYYMMDD'),
                (current_date - ago)::timestamp AT TIME ZONE 'UTC',
                (current_date - ago + 1)::timestamp AT TIME ZONE 'UTC');
        END LOOP;
    END $$
    """
_END = """
    INSERT INTO history (run_id, job, attempt, due_at, finished_at, outcome, closing, name, args,
        priority, failures)
    SELECT uuid7(now() - %s * interval '1 hour'), %s, 1, now(),
        now() - %s * interval '1 hour', %s, true, 'x', '{}', 0, 0
    """
_WAIT = """
    INSERT INTO run (id, job, scheduled, name, args, priority, due_at, not_before)
    SELECT uuid7(now() - %s * interval '1 hour'), %s, false, 'x', '{}', 0, now(), now()
    """


@pytest.fixture
def long_ago(pool: Pool) -> list[tuple[UUID, int, str]]:
    """Make tasks of a week, some of them over at once and some much later; return them all."""
    chance = Random(1)
    execute(pool, _MAKE_DAYS)
    for _ in range(90):
        made = chance.choice([chance.uniform(0, 30), chance.uniform(0, 7 * 24)])
        over = chance.choice([made, chance.uniform(0, made)])
        kind = chance.choice(["often", "often", "often", "rarely"])
        if chance.random() < 0.75:
            execute(pool, _END, made, kind, over, chance.choice(["completed", "failed"]))
        else:
            execute(pool, _WAIT, made, kind)
    found = query(
        pool,
        """
        SELECT run_id, CASE outcome WHEN 'completed' THEN 3 ELSE 4 END, job FROM history
        UNION ALL SELECT id, 1, job FROM run ORDER BY 1 DESC
        """,
    )
    return [(row[0], row[1], row[2]) for row in found]


@pytest.mark.parametrize("newer", [False, True], ids=["older", "newer"])
def test_a_page_holds_what_comes_next(
    pool: Pool, long_ago: list[tuple[UUID, int, str]], newer: bool
) -> None:
    everywhere = [UUID(int=0), UUID(int=2**128 - 1), *(task for task, *_ in long_ago[::15])]
    statuses = (None, tasks.NEW, tasks.COMPLETED, tasks.ERROR)
    for status, kind in product(statuses, (None, "often", "rarely", "never")):
        wanted = search.Wanted(status, kind)
        those = [id_ for id_, s, k in long_ago if status in (None, s) and kind in (None, k)]
        for place in everywhere:
            beyond = [task for task in those if (task > place if newer else task < place)]
            for limit in (1, 9):
                found = search.page(pool, limit, wanted, search.Place(place), newer=newer)
                expected = beyond[-limit:] if newer else beyond[:limit]
                assert [row["task_id"] for row in found] == expected
