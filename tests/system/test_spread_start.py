"""Copies that start at the same time share the jobs out evenly, however they are started."""

from contextlib import ExitStack
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from cluster.migrate import migrate
from cluster.store.tasks import enqueue_keyless
from tests.system.facts import rows, shares, unsound
from tests.system.gunicorns import gunicorn, job_module, server_of

SLOW = """
import os
import time
from pathlib import Path

before = len(list(Path(__file__).parent.glob("*.booted")))
Path(__file__).with_name(f"{os.getpid()}.booted").touch()
time.sleep(1.3 * (before % 3))
"""
"""One of three processes that load it does so 1.3 s later, and one 2.6 s."""

NAPS = """
import time

from cluster import Run, job, task


@task(name="nap")
def nap() -> None:
    time.sleep({nap})


def firing(run: Run) -> None:
    run.wait(100)


for number in range(10):
    job(name=f"firing-{{number}}", schedule="@every 15s", spread=0.5, at_once={at_once})(firing)
"""
"""Ten jobs that are due together. Their slots are wide, for the tasks beside them keep the machine
busy, and a worker whose threads are all taken comes late by as much as such a task takes."""


@pytest.mark.parametrize("start", range(5))
def test_workers_of_one_instance_share_evenly(empty_url: str, tmp_path: Path, start: int) -> None:
    with gunicorn(empty_url, tmp_path) as instance:
        assert shares(empty_url) == [2, 2, 2, 2, 2], f"start {start}"
        assert unsound(empty_url) == {}
        instance.kill()


@pytest.mark.parametrize("start", range(2))
def test_workers_share_evenly_where_each_commit_takes_a_tenth_of_a_second(
    tmp_path: Path, start: int
) -> None:
    with server_of(tmp_path / "data") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET commit_delay = 100000")  # us, before the flush
            connection.execute("ALTER SYSTEM SET commit_siblings = 0")  # however idle the rest is
            connection.execute("SELECT pg_reload_conf()")
        with gunicorn(url, tmp_path) as instance:
            assert shares(url) == [2, 2, 2, 2, 2], f"start {start}"
            instance.kill()


def test_workers_that_boot_more_than_a_second_apart_share_evenly(
    empty_url: str, tmp_path: Path
) -> None:
    settings = {**job_module(tmp_path, SLOW), "RONIN_JOBS": "jobs,own_jobs"}
    with gunicorn(empty_url, tmp_path, env=settings) as instance:
        assert shares(empty_url) == [2, 2, 2, 2, 2]
        instance.kill()


@pytest.mark.parametrize("start", range(3))
def test_instances_started_at_once_share_evenly(empty_url: str, tmp_path: Path, start: int) -> None:
    alone = {"WEB_CONCURRENCY": "1"}
    with ExitStack() as stack:
        started = [gunicorn(empty_url, tmp_path, env=alone) for _ in range(5)]
        instances = [stack.enter_context(each) for each in started]
        found = shares(empty_url)
        assert len(found) == 5, f"start {start}: {found}"
        assert max(found) - min(found) <= 1, f"start {start}: {found}"
        for instance in instances:
            instance.kill()


@pytest.mark.parametrize(("at_once", "nap"), [(True, 60), (False, 0.1)])
def test_workers_share_evenly_beside_a_backlog_of_older_tasks(
    empty_url: str, tmp_path: Path, at_once: bool, nap: float
) -> None:
    """Jobs that are due at the start, or that fire within fifteen seconds after it."""
    migrate(empty_url)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        for _ in range(2):
            enqueue_keyless(connection, [{"kind": "nap", "args": {}}] * 10_000)
    settings = job_module(tmp_path, NAPS.format(at_once=at_once, nap=nap))
    with gunicorn(empty_url, tmp_path, env=settings) as instance:
        assert shares(empty_url) == [2, 2, 2, 2, 2]
        waits: LiteralString = "SELECT count(*) > 0 FROM run WHERE NOT scheduled AND token IS NULL"
        assert rows(empty_url, waits) == [(True,)]
        instance.kill()
