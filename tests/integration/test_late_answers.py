"""Answers that come when the lease they were asked under is over."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg

from cluster import Run, database
from cluster.database import Pool
from tests.eventually import eventually
from tests.integration.builders import NOWHERE, a_job, a_worker, execute, outcomes, value
from tests.integration.hands import Hand, nobody_apart


class Late:
    """A pool that keeps the answer to a claim back until the lease is over by the database."""

    def __init__(self, pool: Pool, watch: Pool) -> None:
        self._pool = pool
        self._watch = watch
        self.kept_back = threading.Event()

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend a connection."""
        with self._pool.connection() as connection:
            yield connection
        if not self.kept_back.is_set() and value(self._watch, "SELECT count(token) FROM run"):
            eventually(lambda: value(self._watch, _OVER))
            self.kept_back.set()


_OVER = "SELECT lease_until < now() FROM worker WHERE name = 'hand:0'"


def test_a_claim_that_arrives_after_the_lease_is_not_begun_but_given_back(
    url: str, pool: Pool
) -> None:
    """Others may have taken it over; what is still ours runs under a new claim."""
    a_worker(pool, process=NOWHERE, names=[])  # so that nobody waits for an opening
    seen: list[Run] = []
    job = a_job(function=seen.append, at_once=False)
    with (
        database.pool(url, "ronin engine", size=1) as engine,
        database.pool(url, "ronin jobs", size=2) as lent,
    ):
        late = Late(engine, pool)
        hand = Hand(cast(Pool, late), lent, (job,), 0, nobody_apart)
        hand.worker.start()
        eventually(lambda: value(pool, "SELECT count(*) FROM run"))
        execute(pool, "UPDATE run SET not_before = 'epoch'")
        eventually(lambda: outcomes(pool) == ["completed"])
        hand.worker.stop(within=20)
    assert late.kept_back.is_set()
    assert [(run.attempt, run.fence) for run in seen] == [(1, 2)]
