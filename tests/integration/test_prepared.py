"""Prepared statements: a session in which preparing one has failed goes on."""

import psycopg
import pytest
from psycopg import sql

from cluster import database
from cluster.database import Pool
from cluster.store import jobs, runs
from cluster.store.looks import Ask
from tests.integration.builders import HERE, a_job, a_worker, claimed, ended


@pytest.mark.parametrize("table", ["opening", "history"])
@pytest.mark.parametrize("turns", [0, 4, 5, 6])
def test_a_turn_that_failed_works_again_in_the_same_session(
    url: str, pool: Pool, table: str, turns: int
) -> None:
    """Whichever use of the statements it was, and whether finish or claim failed itself."""
    jobs.declare(pool, [a_job()])
    ending = ended(pool, claimed(pool))
    worker = a_worker(pool)
    ask = Ask(worker, HERE.host, ["tick"], 0, 0, 0.0)
    with database.pool(url, "ronin engine", size=1, session={"lock_timeout": "50ms"}) as engine:
        for _ in range(turns):
            assert runs.turn(engine, [ending], ask)
        with pool.connection() as holder, holder.transaction():
            holder.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(table)))
            with pytest.raises(psycopg.errors.LockNotAvailable):
                runs.turn(engine, [ending], ask)
        finished, _ = runs.turn(engine, [ending], ask)
        assert len(finished) == 1
