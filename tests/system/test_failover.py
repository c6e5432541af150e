"""A standby that lacks the last claims is promoted: what was lost is done again, once."""

import shutil
import signal
from pathlib import Path

import psycopg

from tests.chaos.server import Server, server
from tests.eventually import eventually
from tests.system.facts import rows, unsound
from tests.system.gunicorns import gunicorn, job_module, ready

KINDS = """
import time

from cluster import Run, task


@task(retry_delay=0)
def count(run: Run) -> None:
    time.sleep(4)  # deaf to everything, as if it were at work
    with run.transaction() as connection:
        connection.execute("UPDATE counter SET value = value + 1")
        run.finish()
"""
TASKS = 6
LEASE = {"RONIN_LEASE_SECONDS": "3", "WEB_CONCURRENCY": "2"}


def test_claims_that_a_failover_lost_are_made_again_and_have_one_effect(tmp_path: Path) -> None:
    with server(tmp_path / "log") as primary:
        rows(primary.url, "CREATE TABLE counter AS SELECT 0 AS value")
        primary.stop(signal.SIGINT)
        standby = primary.standby(primary.folder.with_name(f"{primary.folder.name}-standby"))
        try:
            primary.start()
            standby.start()
            settings = {**LEASE, **job_module(tmp_path, KINDS)}
            with gunicorn(both(primary, standby), tmp_path, env=settings) as cluster:
                ready(cluster)
                eventually(lambda: rows(primary.url, "SELECT 1 FROM job WHERE name = 'count'"))
                lost = claims_lost(primary, standby)
                standby.start()
                rows(standby.url, "SELECT pg_promote()")
                over = "SELECT count(*) FROM history WHERE outcome = 'completed'"
                eventually(lambda: rows(standby.url, over) == [(TASKS,)], within=60)
                # The old attempts end as well, and are refused: nobody has heard of them there.
                late = "SELECT token FROM history WHERE outcome = 'fenced'"
                eventually(lambda: {row[0] for row in rows(standby.url, late)} == lost)
                assert rows(standby.url, "SELECT value FROM counter") == [(TASKS,)]
                assert unsound(standby.url) == {}
        finally:
            standby.stop()
            shutil.rmtree(standby.folder)


def both(primary: Server, standby: Server) -> str:
    hosts = f"{primary.folder}/pg,{standby.folder}/pg"
    return f"postgresql:///postgres?host={hosts}&port={primary.port},{standby.port}&user=postgres"


def claims_lost(primary: Server, standby: Server) -> set[object]:
    """Let tasks be claimed that only the primary knows as claimed; stop both; return the tokens."""
    rows(
        primary.url,
        "SELECT enqueue('count', run_at => now() + interval '3 s') FROM generate_series(1, %(n)s)",
        n=TASKS,
    )
    with psycopg.connect(standby.url, autocommit=True) as there:
        waiting = "SELECT count(*) FROM run WHERE job = 'count'"
        eventually(lambda: there.execute(waiting).fetchone() == (TASKS,))
    standby.stop(signal.SIGINT)
    under_way = "SELECT token FROM run WHERE job = 'count' AND token IS NOT NULL"

    def all_claimed() -> set[object]:
        tokens = {row[0] for row in rows(primary.url, under_way)}
        assert len(tokens) == TASKS
        return tokens

    tokens = eventually(all_claimed)
    primary.stop()
    return tokens
