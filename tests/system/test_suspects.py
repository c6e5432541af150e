"""Runs that have lost two workers, and are performed in a process of their own from then on."""

from pathlib import Path

from tests.system.facts import rows, unsound
from tests.system.gunicorns import gunicorn, job_module, ready
from tests.system.test_tasks import over, post

KINDS = """
import os

from cluster import Run, task


@task(retry_delay=0.05)
def unlucky(run: Run) -> None:
    '''Lose two workers, then have an effect and end in one commit.'''
    if run.attempt < 3:
        os.kill(os.getpid(), 9)
    with run.transaction() as connection:
        connection.execute("INSERT INTO effect (token) VALUES (%s)", (run.token,))
        run.finish("done")
"""


def test_a_suspect_has_transactions_too(url: str, tmp_path: Path) -> None:
    rows(url, "CREATE TABLE effect (token uuid)")
    with gunicorn(url, tmp_path, env=job_module(tmp_path, KINDS)) as cluster:
        ready(cluster)
        task = over(cluster, post(cluster, "unlucky"))
        assert (task["status_name"], task["result"]) == ("COMPLETED", "done"), task["error"]
        assert rows(url, "SELECT count(*) FROM effect") == [(1,)]
        assert unsound(url) == {}
