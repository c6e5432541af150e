"""A real cluster: what runs say is seen at once and outlives a kill; and where they are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.system.facts import held, rows, unsound
from tests.system.gunicorns import Instance, gunicorn, job_module, ready
from tests.system.test_tasks import over, post

KINDS = """
import logging, time
from cluster import Run, task

LOGGER = logging.getLogger(__name__)

def talk(run):
    LOGGER.warning("attempt %d begins", run.attempt)
    while run.attempt == 1:
        run.wait(0.1)
    LOGGER.warning("attempt %d ends", run.attempt)

@task(retry_delay=0)
def chatty(run: Run) -> None:
    talk(run)

@task(retry_delay=0, isolation="process")
def chatty_apart(run: Run) -> None:
    print("printed", run.attempt)
    talk(run)

@task(isolation="process")
def spin() -> None:
    while True:
        pass

@task()
def long(run: Run) -> None:
    run.wait(600)

@task()
def last_words(run: Run) -> None:
    try:
        run.wait(600)
    finally:
        time.sleep(3)  # so that it is the last to end
        LOGGER.warning("told to stop")
"""


@pytest.fixture
def cluster(url: str, tmp_path: Path) -> Iterator[Instance]:
    """A cluster of two workers with these kinds."""
    with gunicorn(url, tmp_path, env={"WEB_CONCURRENCY": "2"} | job_module(tmp_path, KINDS)) as it:
        ready(it)
        yield it
    contradictions = unsound(url)
    contradictions.pop("each job has one run", None)
    assert contradictions == {}


def log(cluster: Instance, task: str) -> list[tuple[int, str]]:
    """Return what is kept of a run, line by line, with the attempt."""
    return [
        (chunk["attempt"], line.partition("] ")[2] or line)
        for chunk in cluster.get(f"/runs/{task}/log")
        for line in chunk["text"].splitlines()
    ]


def stack(cluster: Instance, task: str) -> str:
    """Ask where a run is, and return the answer."""
    cluster.http.post(f"/runs/{task}/stack").raise_for_status()

    return str(eventually(lambda: cluster.get(f"/runs/{task}/stack")["stack"], within=10))


@pytest.mark.parametrize("kind", ["chatty", "chatty_apart"])
def test_lines_are_seen_at_once_and_outlive_the_worker(
    cluster: Instance, url: str, kind: str
) -> None:
    """What was written when the worker was killed stays, beside what the next attempt says."""
    printed = [(1, "printed 1")] if kind == "chatty_apart" else []
    task = post(cluster, kind)
    first = [*printed, (1, "attempt 1 begins")]
    eventually(lambda: log(cluster, task) == first, within=15)
    (worker,) = held(url)
    cluster.workers()[worker].kill()
    assert over(cluster, task)["status_name"] == "COMPLETED"
    second = [(2, said.replace("1", "2")) for _, said in first]
    eventually(lambda: log(cluster, task) == [*first, *second, (2, "attempt 2 ends")])


def test_threads_and_processes_say_where_they_are(cluster: Instance, url: str) -> None:
    """Whichever worker is asked, the one that performs the run answers."""
    for kind in ("long", "spin"):
        task = post(cluster, kind)
        eventually(lambda: rows(url, "SELECT 1 FROM run WHERE token IS NOT NULL"))
        eventually(lambda: f"in {kind}\n" in stack(cluster, task), within=30)  # noqa: B023 - at once
        cluster.http.post(f"/runs/{task}/cancel").raise_for_status()
        over(cluster, task)
        assert cluster.http.post(f"/runs/{task}/stack").status_code == 409


def test_the_last_words_of_a_worker_that_leaves_are_kept(cluster: Instance, url: str) -> None:
    """What a run says when its worker is told to end is written before that one is gone."""
    post(cluster, "last_words")
    eventually(lambda: held(url))
    eventually(lambda: rows(url, "SELECT 1 FROM run WHERE begun_at < now() - interval '0.5 s'"))
    cluster.process.terminate()
    assert cluster.wait() == 0
    (text,) = rows(url, "SELECT text FROM log_chunk")
    assert text[0].endswith("told to stop\n")


@pytest.mark.usefixtures("cluster")
def test_an_idle_cluster_makes_no_statement_about_what_runs_say(url: str) -> None:
    """Nothing is said and nobody performs anything: the connections of runs are never opened."""
    eventually(lambda: rows(url, "SELECT 1 FROM worker HAVING count(*) = 2"))
    beats = rows(url, "SELECT max(lease_until) FROM worker")
    eventually(lambda: rows(url, "SELECT max(lease_until) FROM worker") > beats)
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
    assert rows(url, query + " AND application_name = 'ronin engine'")
    assert rows(url, query + " AND application_name = 'ronin jobs'") == []
