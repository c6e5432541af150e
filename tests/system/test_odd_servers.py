"""Servers that take no writes, or few connections; and a service that is loaded before the fork."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cluster import boot, database
from cluster.migrate import migrate
from tests.eventually import eventually
from tests.system.clients import Clients, change, misposted
from tests.system.facts import outcomes, rows, shares, unsound
from tests.system.gunicorns import gunicorn, job_module, ready, server_of

JOBS = """
from cluster import Run, job

def patient(run: Run) -> None:
    for step in range(80):
        run.progress(step / 80)
        run.wait(0.1)

for number in range(4):
    job(name=f"patient-{number}", every="1d", at_once=True)(patient)
"""
WORKERS = 2
READ_ONLY_SECONDS = 12


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[str]:
    """The URL of this test's own server."""
    with server_of(tmp_path / "data") as address:
        yield address


def set_read_only(url: str, value: str) -> None:
    """Take writes from everybody, or give them back."""
    options = "-c default_transaction_read_only=off"
    with psycopg.connect(make_conninfo(url, options=options), autocommit=True) as connection:
        alter = sql.SQL("ALTER SYSTEM SET default_transaction_read_only = {}")
        connection.execute(alter.format(sql.Literal(value)))
        connection.execute("SELECT pg_reload_conf()")


def test_a_server_that_takes_no_writes_is_told_and_costs_no_run(alone: str, tmp_path: Path) -> None:
    """As one does that was demoted: sessions stay, and new ones are told that it only reads."""
    settings = {"WEB_CONCURRENCY": str(WORKERS), "RONIN_LEASE_SECONDS": "60"}
    with gunicorn(alone, tmp_path, env={**settings, **job_module(tmp_path, JOBS)}) as cluster:
        ready(cluster)
        shares(alone, jobs=4)
        set_read_only(alone, "on")
        began_at = time.monotonic()
        eventually(lambda: change(cluster.http, -1, None).status == 503)
        eventually(lambda: "read-only" in cluster.said())
        with ThreadPoolExecutor(20) as clients:
            refused = list(clients.map(lambda _: change(cluster.http, -1, None), range(20)))
        assert {answer.status for answer in refused} == {503}
        # The runs end meanwhile, and nobody can write it. Each would be stopped, and go on as a
        # second attempt, once its worker had no answer for 0.6 of the lease, 36 s.
        eventually(lambda: time.monotonic() - began_at > READ_ONLY_SECONDS, within=30)
        set_read_only(alone, "off")
        eventually(lambda: change(cluster.http, -1, None).status == 200)
        eventually(lambda: outcomes(alone) == {"completed": 4}, within=60)
        assert rows(alone, "SELECT DISTINCT attempt FROM history WHERE token IS NOT NULL") == [(1,)]
        assert unsound(alone) == {}


def test_a_server_with_few_connections_serves_and_kills_nobody(
    empty_url: str, tmp_path: Path
) -> None:
    """Fewer than its workers would open under load: HTTP waits, and the engine has its own."""
    name = conninfo_to_dict(empty_url)["dbname"]
    role = sql.Identifier(f"few_{name}")
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN CONNECTION LIMIT 9").format(role))
        owner = sql.SQL("ALTER DATABASE {} OWNER TO {}")
        connection.execute(owner.format(sql.Identifier(str(name)), role))
        connection.execute(sql.SQL("ALTER SCHEMA public OWNER TO {}").format(role))
    url = make_conninfo(empty_url, user=role.as_string().strip('"'))
    migrate(url)
    try:
        settings = {"WEB_CONCURRENCY": str(WORKERS), "RONIN_LEASE_SECONDS": "6"}
        with gunicorn(url, tmp_path, env={**settings, **job_module(tmp_path, JOBS)}) as cluster:
            ready(cluster)
            shares(empty_url, jobs=4)
            with Clients(cluster, count=40) as clients:
                clients.await_answers(1000)
            eventually(lambda: outcomes(empty_url) == {"completed": 4}, within=60)
        assert clients.statuses <= {200, 503}
        assert misposted(empty_url, clients.answers) == []
        assert unsound(empty_url) == {}
    finally:
        with psycopg.connect(empty_url, autocommit=True) as connection:
            connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(role))
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_start_says_that_its_workers_may_open_too_many(url: str, tmp_path: Path) -> None:
    wanted = database.probe(url).connections // boot.CONNECTIONS + 1
    with gunicorn(url, tmp_path, env={"WEB_CONCURRENCY": str(wanted)}) as cluster:
        eventually(lambda: "the server takes too few connections" in cluster.said())


def test_a_service_that_is_loaded_before_the_fork_does_not_start(url: str, tmp_path: Path) -> None:
    """Its workers would have one session between them, and did get each other's answers."""
    with gunicorn(url, tmp_path, arguments=["--preload"]) as cluster:
        assert cluster.wait() != 0
        assert "--preload" in cluster.said()
