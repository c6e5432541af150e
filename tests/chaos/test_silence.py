"""A database that takes everything and answers nothing, on connections that stay open."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.migrate import migrate
from tests.chaos.proxy import Proxy
from tests.chaos.server import server
from tests.eventually import eventually
from tests.system.facts import shares
from tests.system.gunicorns import Instance, gunicorn, job_module, ready

LEASE_SECONDS = 3
TOLD = "told"
JOB = f"""
from pathlib import Path
from cluster import Run, RunStopped, job

@job(every="1d", at_once=True)
def obedient(run: Run) -> None:
    try:
        run.wait(60)
    except RunStopped:
        Path(__file__).with_name("{TOLD}").touch()
        raise
"""


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[tuple[Proxy, str]]:
    """A proxy, and the URL of a database behind it."""
    with server(tmp_path / "postgres.log") as database:
        migrate(database.url)
        with Proxy(f"{database.folder}/pg/.s.PGSQL.{database.port}") as made:
            yield made, database.url_at("127.0.0.1", made.port)


@pytest.fixture
def silenced(proxy: tuple[Proxy, str], tmp_path: Path) -> Iterator[Instance]:
    """An instance at work whose database has just fallen silent."""
    middle, url = proxy
    alone = {"WEB_CONCURRENCY": "1", "RONIN_LEASE_SECONDS": str(LEASE_SECONDS)}
    with gunicorn(url, tmp_path, env={**alone, **job_module(tmp_path, JOB)}) as instance:
        ready(instance)
        shares(url, jobs=1)
        middle.set("swallow")
        try:
            yield instance
        finally:
            middle.set("cut")


def test_a_request_is_answered_within_ten_seconds(silenced: Instance) -> None:
    assert silenced.http.get("/users/1", timeout=10).status_code == 503


def test_runs_are_told_to_stop_when_the_lease_is_over(silenced: Instance, tmp_path: Path) -> None:
    assert silenced.process.poll() is None
    eventually((tmp_path / TOLD).exists, within=4 * LEASE_SECONDS)
