"""Ends and reloads: what runs is handed over, nothing overlaps, and no request fails."""

import contextlib
import signal
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import LiteralString

import psutil

from tests.eventually import eventually
from tests.system.clients import Clients, misposted
from tests.system.facts import Row, completed, held, now, outcomes, rows, shares, unsound
from tests.system.gunicorns import ROOT, Instance, gunicorn, job_module, ready

TWO = {"WEB_CONCURRENCY": "2"}

STUBBORN_JOB = """
import time
from cluster import Run, job

@job(every="1d", at_once=True)
def stubborn(run: Run) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with run.connection() as connection:
            connection.execute("INSERT INTO sign_of_life (token) VALUES (%s)", (run.token,))
        time.sleep(0.05)
"""


SIGN_OF_LIFE: LiteralString = """
CREATE TABLE sign_of_life (token uuid, at timestamptz DEFAULT clock_timestamp())
"""


def unharmed(url: str) -> bool:
    """Tell whether no run has been charged with a failure or a crash."""
    return not rows(url, "SELECT job FROM run WHERE failures > 0 OR crashes > 0")


def nobody(*instances: Instance) -> bool:
    return not any(instance.processes() for instance in instances)


def test_terminated_cluster_gives_its_runs_back_and_leaves_nothing(
    url: str, tmp_path: Path
) -> None:
    with gunicorn(url, tmp_path, env={"RONIN_SAMPLE_SECONDS": "60"}) as cluster:
        shares(url)
        cluster.signal(signal.SIGTERM)
        assert cluster.wait() == 0
        assert nobody(cluster)
    assert outcomes(url) == {"interrupted": 10}
    assert rows(url, "SELECT count(*) FROM run WHERE token IS NULL AND not_before <= now()") == [
        (10,)
    ]
    assert rows(url, "SELECT * FROM worker") == []
    assert unharmed(url)
    assert unsound(url) == {}


def test_runs_of_a_terminated_instance_go_on_in_the_other(url: str, tmp_path: Path) -> None:
    settings = {**TWO, "RONIN_SAMPLE_SECONDS": "4"}
    with ExitStack() as stack:
        first = stack.enter_context(gunicorn(url, tmp_path, env=settings))
        second = stack.enter_context(gunicorn(url, tmp_path, env=settings))
        ready(first, second)
        shares(url)
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        assert len(rows(url, "SELECT id FROM worker WHERE NOT leaving")) == 2
        eventually(lambda: completed(url) == 10, within=30)
        assert set(held(url)) <= set(second.workers())
    assert set(outcomes(url)) == {"completed", "interrupted"}
    assert unharmed(url)
    assert unsound(url) == {}


def test_reload_under_load_fails_no_request_and_jobs_go_on(url: str, tmp_path: Path) -> None:
    with gunicorn(url, tmp_path, env={**TWO, "RONIN_SAMPLE_SECONDS": "4"}) as cluster:
        ready(cluster)
        shares(url)
        old = set(cluster.workers())
        with Clients(cluster) as clients:
            clients.await_answers(50)
            cluster.signal(signal.SIGHUP)
            eventually(lambda: len(cluster.workers()) == 2 and old.isdisjoint(cluster.workers()))
            clients.await_answers(50)
        assert clients.statuses == {200}
        assert misposted(url, clients.answers) == []
        eventually(lambda: completed(url) == 10, within=30)
        assert set(held(url)).isdisjoint(old)
        assert "crashed" not in outcomes(url)
        assert unsound(url) == {}


def test_new_master_takes_the_place_of_the_old_one_without_a_failed_request(
    url: str, tmp_path: Path
) -> None:
    # Long enough to be interrupted, however slow the new master comes up.
    with gunicorn(url, tmp_path, env={**TWO, "RONIN_SAMPLE_SECONDS": "12"}) as cluster:
        ready(cluster)
        shares(url)
        with Clients(cluster) as clients:
            clients.await_answers(50)
            old = set(cluster.workers())
            cluster.signal(signal.SIGUSR2)
            eventually(lambda: len(rows(url, "SELECT id FROM worker")) == 4)
            cluster.signal(signal.SIGTERM)
            assert cluster.wait() == 0
            clients.await_answers(50)
        assert clients.statuses == {200}
        assert misposted(url, clients.answers) == []
        eventually(lambda: completed(url) == 10, within=60)
        assert set(outcomes(url)) == {"completed", "interrupted"}
        assert old.isdisjoint(held(url))
        assert unsound(url) == {}
        assert len(cluster.processes()) == 3


def test_workers_replaced_after_some_requests_double_and_lose_no_job(
    url: str, tmp_path: Path
) -> None:
    limit = "--max-requests", "50"
    settings = {**TWO, "RONIN_SAMPLE_SECONDS": "4"}
    with gunicorn(url, tmp_path, env=settings, arguments=limit) as cluster:
        ready(cluster)
        with Clients(cluster) as clients:
            eventually(lambda: cluster.said().count("Autorestarting worker") >= 4, within=40)
        assert clients.statuses == {200}
        assert misposted(url, clients.answers) == []
        eventually(lambda: completed(url) == 10, within=40)
        assert unharmed(url)
        assert "crashed" not in outcomes(url)
        assert unsound(url) == {}


def test_workers_of_a_killed_master_end_by_themselves(url: str, tmp_path: Path) -> None:
    with gunicorn(url, tmp_path, env={**TWO, "RONIN_SAMPLE_SECONDS": "60"}) as cluster:
        shares(url)
        cluster.process.kill()
        cluster.wait()
        eventually(lambda: nobody(cluster), within=30)
    assert outcomes(url) == {"interrupted": 10}
    assert rows(url, "SELECT * FROM worker") == []
    assert held(url) == {}
    assert unsound(url) == {}


def test_no_worker_is_stuck_however_its_signals_fall(url: str, tmp_path: Path) -> None:
    settings = {"WEB_CONCURRENCY": "8", "RONIN_SAMPLE_SECONDS": "60"}
    with gunicorn(url, tmp_path, env=settings) as cluster:
        eventually(lambda: len(rows(url, "SELECT id FROM worker")) == 8)
        workers = list(cluster.workers().values())
        for worker in workers:
            interrupt_and_quit(worker)
        eventually(lambda: not any(alive(worker) for worker in workers))
        cluster.kill()


def interrupt_and_quit(worker: psutil.Process) -> None:
    """Send what Ctrl-C and then the master send, so often that one comes during the other."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for _ in range(100):
            worker.send_signal(signal.SIGINT)
            worker.send_signal(signal.SIGQUIT)


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def last_start(url: str, worker: str) -> datetime:
    query: LiteralString = "SELECT max(started_at) FROM history WHERE worker = %(worker)s"
    [(at,)] = rows(url, query, worker=worker)
    assert isinstance(at, datetime)
    return at


def gives_up_first(folder: Path) -> list[str]:
    """Return arguments for workers that stop waiting for a job before the master kills them."""
    configuration = folder / "short.conf.py"
    configuration.write_text(
        f"exec(open({str(ROOT / 'gunicorn.conf.py')!r}).read())\ngraceful_timeout = 4\n"
    )
    return ["-c", str(configuration)]


def test_job_that_does_not_listen_goes_down_with_a_killed_master(url: str, tmp_path: Path) -> None:
    rows(url, SIGN_OF_LIFE)
    settings = {"WEB_CONCURRENCY": "1", **job_module(tmp_path, STUBBORN_JOB)}
    with gunicorn(url, tmp_path, env=settings, arguments=gives_up_first(tmp_path)) as cluster:
        eventually(lambda: len(lives(url)) == 1)
        cluster.process.kill()
        cluster.wait()
        eventually(lambda: nobody(cluster), within=30)
    with gunicorn(url, tmp_path, env=settings) as successor:
        eventually(lambda: len(lives(url)) == 2)
        assert outcomes(url) == {"interrupted": 1}
        assert unharmed(url)
        successor.kill()


def lives(url: str) -> list[Row]:
    """Return first, last and number of the signs of life of each attempt, in their order."""
    return rows(
        url, "SELECT min(at), max(at), count(*) FROM sign_of_life GROUP BY token ORDER BY 1"
    )


def test_frozen_worker_that_the_master_kills_leaves_consistent_data(
    url: str, tmp_path: Path
) -> None:
    limit = "--timeout", "3"
    settings = {**TWO, "RONIN_SAMPLE_SECONDS": "3"}
    with gunicorn(url, tmp_path, env=settings, arguments=limit) as cluster:
        shares(url)
        name, lost = next(iter(held(url).items()))
        worker = cluster.workers()[name]
        worker.suspend()
        eventually(lambda: not alive(worker))
        eventually(lambda: completed(url) == 10, within=30)
        assert outcomes(url)["crashed"] == len(lost)
        assert unsound(url) == {}


def test_worker_terminated_alone_is_replaced_and_its_runs_go_on(url: str, tmp_path: Path) -> None:
    with gunicorn(url, tmp_path, env={**TWO, "RONIN_SAMPLE_SECONDS": "4"}) as cluster:
        shares(url)
        name, lost = next(iter(held(url).items()))
        cluster.workers()[name].terminate()
        eventually(lambda: name not in cluster.workers() and len(cluster.workers()) == 2)
        ended_at = now(url)
        eventually(lambda: completed(url) == 10, within=30)
        assert last_start(url, name) < ended_at
        assert outcomes(url)["interrupted"] == len(lost)
        assert unharmed(url)
        assert unsound(url) == {}
