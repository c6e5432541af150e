"""How long a worker that leaves waits for its runs, and what never ends a run."""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.system.deploys import (
    ANSWERED,
    Visitors,
    end_of,
    gone,
    handed_over,
    longest_pause,
    note,
    terminate,
    uncharged,
)
from tests.system.facts import Row, completed, now, outcomes, rows, shares, unsound
from tests.system.gunicorns import ROOT, Instance, gunicorn, job_module, ready

TWO = {"WEB_CONCURRENCY": "2"}
ONE = {"WEB_CONCURRENCY": "1"}

UNHEARING = """
import time
from cluster import job

@job(every="1d", at_once=True)
def unhearing() -> None:
    time.sleep(6)
"""

STAMPING = """
import time
from cluster import Run, job

@job(every="1d", at_once=True)
def stamping(run: Run) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with run.connection() as connection:
            connection.execute("INSERT INTO stamp (token) VALUES (%s)", (run.token,))
        time.sleep(0.02)
"""

LASTING_AND_BUSY = """
import time
from cluster import Run, job

@job(every="1d", at_once=True)
def lasting(run: Run) -> None:
    time.sleep(9)

@job(every="1d", at_once=True)
def busy(run: Run) -> None:
    until = time.monotonic() + 9
    while time.monotonic() < until:
        sum(range(100_000))
"""


def started(url: str, count: int = 1) -> bool:
    return rows(url, "SELECT count(*) FROM run WHERE token IS NOT NULL") == [(count,)]


def test_run_that_ends_within_the_time_is_completed(url: str, tmp_path: Path) -> None:
    settings = {**ONE, **job_module(tmp_path, UNHEARING)}
    with ExitStack() as stack:
        first = stack.enter_context(gunicorn(url, tmp_path, env=settings))
        eventually(lambda: started(url))
        second = stack.enter_context(gunicorn(url, tmp_path, env=settings))
        ready(second)
        terminate(url, first)
        assert outcomes(url) == {"completed": 1}
        assert rows(url, "SELECT max(attempt) FROM history") == [(1,)]


def by_itself(_folder: Path) -> tuple[str, ...]:
    """Return arguments for a worker that ends by itself before the master kills it."""
    return "--graceful-timeout", "4"


def by_the_master(folder: Path) -> tuple[str, ...]:
    """Return arguments for a worker that would wait longer than its master."""
    configuration = folder / "patient.conf.py"
    configuration.write_text(
        f"exec(open({str(ROOT / 'gunicorn.conf.py')!r}).read())\n"
        "graceful_timeout = 3\n"
        "worker_exit = lambda server, worker: worker.jobs.stop(within=30)\n"
    )
    return "-c", str(configuration)


@pytest.mark.parametrize("end", [by_itself, by_the_master])
def test_run_that_does_not_listen_is_interrupted_and_silent_before_its_successor(
    url: str, tmp_path: Path, end: Callable[[Path], tuple[str, ...]]
) -> None:
    rows(url, "CREATE TABLE stamp (token uuid, at timestamptz DEFAULT clock_timestamp())")
    settings = {**ONE, **job_module(tmp_path, STAMPING)}
    with ExitStack() as stack:
        first = stack.enter_context(gunicorn(url, tmp_path, env=settings, arguments=end(tmp_path)))
        eventually(lambda: len(lives(url)) == 1)
        second = stack.enter_context(gunicorn(url, tmp_path, env=settings))
        ready(second)
        told_at = now(url)
        took = handed_over(url, terminate(url, first), runs=1)
        eventually(lambda: len(lives(url)) == 2 and lives(url)[1][2] > 10)
        [(_, last_stamp, _), (first_stamp, _, _)] = lives(url)
        note(after_the_end=took, stamps_apart=(first_stamp - last_stamp).total_seconds())
        assert told_at < last_stamp < first_stamp
        assert took < 10
        assert outcomes(url) == {"interrupted": 1}
        assert uncharged(url)
        assert unsound(url) == {}
        second.kill()


def lives(url: str) -> list[Row]:
    """Return first, last and number of the stamps of each attempt, in their order."""
    return rows(url, "SELECT min(at), max(at), count(*) FROM stamp GROUP BY token ORDER BY 1")


def test_reload_waits_no_longer_for_a_run_that_does_not_listen(url: str, tmp_path: Path) -> None:
    rows(url, "CREATE TABLE stamp (token uuid, at timestamptz DEFAULT clock_timestamp())")
    settings = {**ONE, **job_module(tmp_path, STAMPING)}
    with gunicorn(url, tmp_path, env=settings, arguments=by_itself(tmp_path)) as cluster:
        eventually(lambda: len(lives(url)) == 1)
        [old] = cluster.workers().values()
        cluster.signal(signal.SIGHUP)
        took = handed_over(url, end_of(url, old), runs=1)
        eventually(lambda: len(lives(url)) == 2)
        [(_, last_stamp, _), (first_stamp, _, _)] = lives(url)
        note(after_the_end=took)
        assert last_stamp < first_stamp
        assert took < 10
        assert outcomes(url) == {"interrupted": 1}
        assert uncharged(url)
        cluster.kill()


def test_worker_timeout_ends_no_run_however_long_or_busy(url: str, tmp_path: Path) -> None:
    limit = "--timeout", "3"
    settings = {**ONE, **job_module(tmp_path, LASTING_AND_BUSY)}
    with gunicorn(url, tmp_path, env=settings, arguments=limit) as cluster:
        eventually(lambda: started(url, 2))
        workers = set(cluster.workers())
        eventually(lambda: outcomes(url) == {"completed": 2}, within=40)
        assert rows(url, "SELECT max(attempt) FROM history") == [(1,)]
        assert set(cluster.workers()) == workers
        assert "WORKER TIMEOUT" not in cluster.said()


def test_workers_replaced_again_and_again_pass_runs_on_and_charge_them_nothing(
    url: str, tmp_path: Path
) -> None:
    limit = "--max-requests", "50", "--max-requests-jitter", "10"
    settings = {**TWO, "RONIN_SAMPLE_SECONDS": "25"}
    with gunicorn(url, tmp_path, env=settings, arguments=limit) as cluster:
        ready(cluster)
        shares(url)
        # At a pace: what workers can't start that live for a second is handed on for ever.
        with Visitors(cluster.port, 1, rest=0.04) as visitors:
            eventually(lambda: replacements(cluster) >= 4, within=90, every=0.2)
        handed_over(url, now(url))
        note(longest_pause=longest_pause(url))
        assert set(visitors.fates) == {ANSWERED}
        assert set(outcomes(url)) == {"interrupted"}
        assert uncharged(url)
        assert longest_pause(url) < 15
        # Without the requests they come to their end.
        eventually(lambda: completed(url) == 10, within=60)
        assert set(outcomes(url)) == {"interrupted", "completed"}
        assert unsound(url) == {}


def replacements(cluster: Instance) -> int:
    return cluster.said().count("Autorestarting worker")


def test_instance_that_is_told_twice_leaves_in_order(url: str, tmp_path: Path) -> None:
    settings = {**TWO, "RONIN_SAMPLE_SECONDS": "120"}
    with gunicorn(url, tmp_path, env=settings) as cluster:
        shares(url)
        cluster.signal(signal.SIGHUP)
        cluster.signal(signal.SIGTERM)
        cluster.signal(signal.SIGTERM)
        cluster.wait(60)
        gone(cluster)
    assert "crashed" not in outcomes(url)
    assert rows(url, "SELECT * FROM worker") == []
    assert uncharged(url)
