"""HUP: new code in the old place, request by request, and never code that can't be loaded."""

import signal
from pathlib import Path

import psutil
import pytest

from tests.eventually import eventually
from tests.system.clients import Clients, misposted
from tests.system.deploys import ANSWERED, Visitors, longest_pause, note, uncharged
from tests.system.facts import held, outcomes, rows, unsound
from tests.system.gunicorns import Instance, gunicorn, job_module, ready

TWO = {"WEB_CONCURRENCY": "2"}

LASTING = """
from cluster import Run, job

def last(run: Run) -> None:
    while True:
        run.wait(0.1)
"""


def lasting(*names: str) -> str:
    """Return a module with jobs of these names, each without an end."""
    return LASTING + "".join(
        f"\njob(name={name!r}, every='1d', at_once=True)(last)\n" for name in names
    )


def under_way(url: str) -> list[str]:
    return sorted(job for jobs in held(url).values() for job in jobs)


def replaced(cluster: Instance, url: str, old: set[str]) -> set[str]:
    """Wait until only new workers have joined, so that all have read their jobs; return them."""

    def joined() -> set[str]:
        names = {name for (name,) in rows(url, "SELECT name FROM worker")}
        assert len(names) == 2
        assert names == set(cluster.workers())
        assert names.isdisjoint(old)
        return names

    return eventually(joined, within=40)


def test_reload_under_load_brings_new_jobs_keeps_old_ones_and_fails_no_request(
    url: str, tmp_path: Path
) -> None:
    settings = {**TWO, **job_module(tmp_path, lasting("kept", "leaves"))}
    with gunicorn(url, tmp_path, env=settings) as cluster:
        eventually(lambda: under_way(url) == ["kept", "leaves"])
        with Clients(cluster, 2) as clients, Visitors(cluster.port) as visitors:
            for turn in range(5):
                clients.await_answers(20)
                visitors.await_answers(20)
                job_module(tmp_path, lasting("kept", f"comes-{turn}"))
                old = set(cluster.workers())
                cluster.signal(signal.SIGHUP)
                new = replaced(cluster, url, old)
                eventually(lambda t=turn: under_way(url) == [f"comes-{t}", "kept"])  # type: ignore[misc] # at once
                assert set(held(url)) <= new
        note(longest_visit=visitors.longest, longest_pause=longest_pause(url))
        assert clients.statuses == {200}
        assert set(visitors.fates) == {ANSWERED}
        assert misposted(url, clients.answers) == []
        assert outcomes(url) == {"interrupted": 10}
        assert uncharged(url)
        waiting = rows(url, "SELECT job FROM run WHERE token IS NULL AND not_before < now()")
        assert ("leaves",) in waiting
        job_module(tmp_path, lasting("leaves"))
        cluster.signal(signal.SIGHUP)
        eventually(lambda: under_way(url) == ["leaves"])
        assert unsound(url) == {}


BROKEN = {
    "syntax": ("def broken(:", "SyntaxError"),
    "import": ("from cluster import no_such_name", "no_such_name"),
    "setting": (
        "from cluster import job\njob(schedule='61 * * * *', name='odd')(print)",
        "job 'odd'",
    ),
    "exit": ("raise SystemExit('not today')", "not today"),
    "death": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    "hang": ("import threading; threading.Event().wait()", "SIGALRM"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_reload_of_code_that_can_not_be_loaded_is_refused_with_one_line(
    url: str, tmp_path: Path, kind: str
) -> None:
    source, reason = BROKEN[kind]
    settings = {**TWO, **job_module(tmp_path, lasting("kept"))}
    limit = ("--timeout", "5") if kind == "hang" else ()
    with gunicorn(url, tmp_path, env=settings, arguments=limit) as cluster:
        eventually(lambda: under_way(url) == ["kept"])
        workers, said = set(cluster.workers()), len(cluster.said())
        with Clients(cluster, 2) as clients:
            job_module(tmp_path, source)
            cluster.signal(signal.SIGHUP)
            eventually(lambda: "reload refused" in cluster.said(), within=30)
            clients.await_answers(20)
        assert clients.statuses == {200}
        assert set(cluster.workers()) == workers
        [line] = complaints(cluster, said)
        assert "reload refused" in line
        assert reason in line
        assert outcomes(url) == {}
        job_module(tmp_path, lasting("kept", "mended"))
        cluster.signal(signal.SIGHUP)
        eventually(lambda: under_way(url) == ["kept", "mended"], within=40)
        replaced(cluster, url, workers)


def complaints(instance: Instance, since: int) -> list[str]:
    """Return what was said beyond the course of events."""
    return [line for line in instance.said()[since:].splitlines() if "[info " not in line]


def test_configuration_that_can_not_be_read_is_refused_as_well(url: str, tmp_path: Path) -> None:
    configuration = tmp_path / "own.conf.py"
    configuration.write_text("exec(open('gunicorn.conf.py').read())\n")
    own = "-c", str(configuration)
    settings = {**TWO, **job_module(tmp_path, lasting("kept"))}
    with gunicorn(url, tmp_path, env=settings, arguments=own) as cluster:
        eventually(lambda: under_way(url) == ["kept"])
        workers = set(cluster.workers())
        configuration.write_text("workers = ")
        cluster.signal(signal.SIGHUP)
        eventually(lambda: "reload refused" in cluster.said())
        ready(cluster)
        assert set(cluster.workers()) == workers


def test_worker_that_finds_half_a_deploy_is_tried_again_and_the_others_go_on(
    url: str, tmp_path: Path
) -> None:
    settings = {**TWO, **job_module(tmp_path, lasting("kept", "kept-too"))}
    with gunicorn(url, tmp_path, env=settings) as cluster:
        eventually(lambda: under_way(url) == ["kept", "kept-too"])
        (victim, process), (other, _) = cluster.workers().items()
        job_module(tmp_path, "def broken(:")
        process.kill()
        eventually(lambda: set(held(url)) == {other} and len(under_way(url)) == 2)
        eventually(lambda: "can't load" in cluster.said())
        ready(cluster)
        assert other in cluster.workers()
        job_module(tmp_path, lasting("kept", "kept-too"))
        eventually(lambda: len(rows(url, "SELECT id FROM worker")) == 2)
        assert victim not in cluster.workers()


def test_killed_master_leaves_no_trial_of_a_reload_behind(url: str, tmp_path: Path) -> None:
    settings = {**TWO, **job_module(tmp_path, lasting("kept"))}
    with gunicorn(url, tmp_path, env=settings, arguments=("--timeout", "5")) as cluster:
        eventually(lambda: under_way(url) == ["kept"])
        job_module(tmp_path, BROKEN["hang"][0])
        cluster.signal(signal.SIGHUP)
        eventually(lambda: len(cluster.processes()) == 4)
        cluster.process.kill()
        eventually(lambda: not any(map(psutil.Process.is_running, cluster.processes())), within=30)
