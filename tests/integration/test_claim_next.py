"""The next claim goes on from a place, and stops where only a whole look may decide."""

from dataclasses import replace

import pytest

from cluster.database import Pool
from cluster.store import jobs, looks
from tests.integration.builders import HERE, a_kind, a_worker, asked, execute, tasks, value


def test_the_next_claim_goes_on_after_the_last_one(pool: Pool) -> None:
    tasks(pool, 5)
    job = value(pool, "SELECT job FROM run LIMIT 1")
    ask = looks.Ask(a_worker(pool), HERE.host, [job], 0, 2, 0.0)
    first = looks.claim(pool, ask)
    after = looks.claim(pool, replace(ask, after=first.last))
    assert [len(first.claims), len(after.claims)] == [2, 2]
    ids = [claim.id for claim in (*first.claims, *after.claims)]
    assert ids == sorted(set(ids))
    assert len({claim.token for claim in (*first.claims, *after.claims)}) == 4


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE run SET priority = 5 WHERE id = (SELECT max(id::text)::uuid FROM run)",
        "UPDATE job SET paused = true",
        "UPDATE job SET max_running = 9",
        "UPDATE run SET spread = '1 s' WHERE token IS NULL",
        "UPDATE opening SET opens_at = 'infinity'",
        "UPDATE worker SET lease_until = '-infinity'",
    ],
    ids=["urgent", "paused", "limited", "spread", "closed", "dead"],
)
def test_the_next_claim_takes_nothing(pool: Pool, change: str) -> None:
    tasks(pool, 5)
    job = value(pool, "SELECT job FROM run LIMIT 1")
    ask = looks.Ask(a_worker(pool), HERE.host, [job], 0, 2, 0.0)
    first = looks.claim(pool, ask)
    execute(pool, change)
    assert looks.claim(pool, replace(ask, after=first.last)).claims == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE run SET not_before = now() + interval '1 day' WHERE job = 'work'",
        "UPDATE job SET paused = true WHERE name = 'work'",
        "UPDATE job SET max_running = 1 WHERE name = 'work'",
    ],
    ids=["later", "paused", "limited"],
)
def test_the_next_claim_minds_nothing_urgent_that_may_not_start(pool: Pool, change: str) -> None:
    tasks(pool, 5)
    jobs.declare(pool, [a_kind()])
    asked(pool, 2, priority=5)
    execute(pool, change)
    ask = looks.Ask(a_worker(pool), HERE.host, ["tick", "work"], 0, 2, 0.0)
    first = looks.claim(pool, ask)
    after = looks.claim(pool, replace(ask, after=first.last))
    assert [claim.job for claim in (*first.claims, *after.claims)] == ["tick"] * 4
