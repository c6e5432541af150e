"""Copies that start at the same time share the jobs out evenly, however they are started."""

from contextlib import ExitStack
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from cluster.migrate import migrate
from cluster.store.tasks import enqueue_keyless
from tests.system.facts import rows, shares, unsound
from tests.system.gunicorns import gunicorn, job_module

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


SLOW_COMMIT: LiteralString = """
    CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow_commit AFTER UPDATE ON run DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (OLD.token IS NULL AND NEW.token IS NOT NULL) EXECUTE FUNCTION linger()
    """
"""At the commit of a claim, while its rows are locked."""


@pytest.mark.parametrize("start", range(5))
def test_workers_of_one_instance_share_evenly(empty_url: str, tmp_path: Path, start: int) -> None:
    with gunicorn(empty_url, tmp_path) as instance:
        assert shares(empty_url) == [2, 2, 2, 2, 2], f"start {start}"
        assert unsound(empty_url) == {}
        instance.kill()


def test_workers_share_evenly_where_a_claim_takes_half_a_second_to_commit(
    empty_url: str, tmp_path: Path
) -> None:
    """Five of them one after another would take longer than a slot of the opening, 1.5 s."""
    migrate(empty_url)
    rows(empty_url, SLOW_COMMIT)
    settings = job_module(tmp_path, NAPS.format(at_once=True, nap=0))
    with gunicorn(empty_url, tmp_path, env=settings) as instance:
        assert shares(empty_url) == [2, 2, 2, 2, 2]
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
