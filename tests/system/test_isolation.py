"""Isolated runs in a real cluster: ended when they have to, handed over, and nothing survives."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.eventually import eventually
from tests.integration.apart import gone
from tests.system.facts import held, outcomes, rows, unsound
from tests.system.gunicorns import ROOT, Instance, gunicorn, job_module, ready

KINDS = """
import ctypes, os, subprocess, sys, time
from pathlib import Path
from cluster import Run, job, task

def begun(path, run):
    '''Say who performs it, attempt by attempt.'''
    new = Path(f"{path}.{run.attempt}.new")
    new.write_text(str(os.getpid()))
    new.rename(f"{path}.{run.attempt}")

@job(every="1s")
def tick() -> None:
    '''Go on whatever the others do.'''

@task(isolation="process", timeout="12s", max_retries=1)
def hog(run: Run, path: str) -> None:
    begun(path, run)
    ctypes.PyDLL(None).sleep(600)  # the interpreter's lock is held

@task(isolation="process", remote=True, timeout="10s", max_retries=1)
def far(run: Run, path: str) -> None:
    begun(path, run)
    ctypes.PyDLL(None).sleep(600)

@task(isolation="process")
def spin(run: Run, path: str) -> None:
    begun(path, run)
    while True:
        pass

@task(isolation="process", retry_delay=0)
def once(run: Run, path: str) -> str:
    '''Hold everything up at the first attempt.'''
    if run.attempt == 1:
        child = subprocess.Popen(["sleep", "600"])
        Path(f"{path}.child").write_text(str(child.pid))
        begun(path, run)
        ctypes.PyDLL(None).sleep(600)
    return f"attempt {run.attempt}"

@task(isolation="process")
def polite(run: Run, path: str) -> None:
    begun(path, run)
    run.wait(600 if run.attempt == 1 else 0)

@task(isolation="process")
def writing(run: Run, path: str, attempts: int) -> None:
    '''Note the time of this host again and again.'''
    with Path(path).open("a", buffering=1) as out:
        while run.attempt <= attempts:
            out.write(f"{run.attempt} {time.monotonic()}\\n")
    begun(path, run)

@task(isolation="process")
def last_words(run: Run) -> None:
    print("the last words", flush=True)
    os.abort()

@task()
def pair(run: Run, path: str, one: str, other: str) -> None:
    '''End when both are under way.'''
    Path(path + one).touch()
    while not Path(path + other).exists():
        run.wait(0.01)
"""
ALONE = {"WEB_CONCURRENCY": "1", "RONIN_LEASE_SECONDS": "3", "RONIN_MAX_CONCURRENCY": "2"}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Settings of one worker with two slots."""
    return {**ALONE, **job_module(tmp_path, KINDS)}


@pytest.fixture
def service(url: str, tmp_path: Path, env: dict[str, str]) -> Iterator[Instance]:
    """An instance with these kinds, which ends without a trace of them."""
    with gunicorn(url, tmp_path, env=env) as instance:
        ready(instance)
        yield instance
    sound(url)


def sound(url: str) -> None:
    """Check the guarantees, but for the one that is about jobs with a schedule."""
    contradictions = unsound(url)
    contradictions.pop("each job has one run", None)
    assert contradictions == {}


def post(service: Instance, kind: str, **args: object) -> str:
    """Ask for a task; return its id."""
    body = {"name": kind, "kind": kind, "args": args}
    made: str = service.http.post("/tasks", json=body).raise_for_status().json()["task_id"]
    return made


def over(service: Instance, task: str) -> dict[str, Any]:
    """Return a task once it is over."""

    def found() -> dict[str, Any] | None:
        row: dict[str, Any] = service.get(f"/tasks/{task}")
        return row if row["finished_at"] else None

    return eventually(found, within=60) or {}


def ends(service: Instance, task: str) -> list[str]:
    """Return the outcome of each attempt, the first one first."""
    return [each["outcome"] for each in service.get(f"/tasks/{task}/attempts")]


def performer(path: Path, attempt: int = 1) -> psutil.Process:
    """Return the process that performs an attempt, once it does."""
    return psutil.Process(int(eventually(Path(f"{path}.{attempt}").read_text, within=60)))


def ticks(url: str) -> int:
    found: int = rows(url, "SELECT count(*) FROM history WHERE outcome = 'completed'")[0][0]
    return found


def all_gone(*processes: psutil.Process) -> bool:
    return all(map(gone, processes))


def test_hard_timeout_ends_what_holds_the_interpreter_and_nothing_else(
    service: Instance, url: str, tmp_path: Path
) -> None:
    workers = service.workers()
    task = post(service, "hog", path=str(tmp_path / "pid"))
    hog = performer(tmp_path / "pid")
    keeper = psutil.Process(hog.ppid())
    ticked = ticks(url)
    eventually(lambda: ticks(url) > ticked)
    assert not over(service, task)["result"]
    assert ends(service, task) == ["timed_out"]
    [(error,)] = rows(url, "SELECT error FROM history WHERE outcome = 'timed_out'")
    assert error == "timed out after 12 s; it did not stop by itself and was killed"
    assert all_gone(hog, keeper)
    assert service.workers() == workers
    names = ("a", "b"), ("b", "a")
    pairs = [post(service, "pair", path=str(tmp_path), one=n[0], other=n[1]) for n in names]
    assert [over(service, each)["status_name"] for each in pairs] == ["COMPLETED"] * 2
    ticked = ticks(url)
    eventually(lambda: ticks(url) > ticked)


def test_cancelled_task_that_never_looks_ends(service: Instance, tmp_path: Path) -> None:
    task = post(service, "spin", path=str(tmp_path / "pid"))
    spinning = performer(tmp_path / "pid")
    service.http.delete(f"/tasks/{task}").raise_for_status()
    assert over(service, task)["status_name"] == "ERROR"
    assert ends(service, task) == ["cancelled"]
    eventually(lambda: gone(spinning))


@pytest.mark.parametrize("victim", ["keeper", "performer", "worker"])
def test_run_is_done_again_and_nothing_survives(
    service: Instance, tmp_path: Path, victim: str
) -> None:
    task = post(service, "once", path=str(tmp_path / "pid"))
    performing = performer(tmp_path / "pid")
    keeper = psutil.Process(performing.ppid())
    child = psutil.Process(int((tmp_path / "pid.child").read_text()))
    worker = psutil.Process(keeper.ppid())
    assert worker in service.workers().values()
    {"keeper": keeper, "performer": performing, "worker": worker}[victim].kill()
    assert over(service, task)["result"] == "attempt 2"
    assert ends(service, task) == ["crashed", "completed"]
    assert all_gone(performing, keeper)
    eventually(lambda: gone(child))
    assert gone(worker) == (victim == "worker")


def test_output_of_a_process_that_died_is_evidence(service: Instance, url: str) -> None:
    over(service, post(service, "last_words"))
    errors = {row[0] for row in rows(url, "SELECT error FROM history WHERE outcome = 'crashed'")}
    assert all("SIGABRT" in error and "the last words" in error for error in errors)
    assert "the last words" in service.said()


def test_polite_run_of_a_terminated_instance_goes_on_in_the_other(
    url: str, tmp_path: Path, env: dict[str, str]
) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(gunicorn(url, tmp_path, env=env))
        ready(first)
        task = post(first, "polite", path=str(tmp_path / "pid"))
        performing = performer(tmp_path / "pid")
        second = stack.enter_context(gunicorn(url, tmp_path, env=env))
        ready(second)
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        assert gone(performing)
        assert not first.processes()
        assert over(second, task)["status_name"] == "COMPLETED"
        assert ends(second, task) == ["interrupted", "completed"]
    sound(url)


def test_run_that_does_not_listen_has_ended_before_its_successor_begins(
    url: str, tmp_path: Path, env: dict[str, str]
) -> None:
    with ExitStack() as stack:
        short = ("--graceful-timeout", "2")
        first = stack.enter_context(gunicorn(url, tmp_path, env=env, arguments=short))
        ready(first)
        task = post(first, "writing", path=str(tmp_path / "times"), attempts=1)
        eventually(lambda: times(tmp_path / "times", 1))
        second = stack.enter_context(gunicorn(url, tmp_path, env=env))
        ready(second)
        asked_at = max(times(tmp_path / "times", 1))
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        assert over(second, task)["status_name"] == "COMPLETED"
        eventually(lambda: not first.processes())
        assert ends(second, task) == ["interrupted", "completed"]
        assert max(times(tmp_path / "times", 1)) > asked_at + 1  # it was not killed at once
    sound(url)


def times(path: Path, attempt: int) -> list[float]:
    """Return when an attempt wrote."""
    lines = (line.split() for line in path.read_text().splitlines())
    return [float(line[1]) for line in lines if len(line) == 2 and line[0] == str(attempt)]


def test_attempts_of_a_frozen_worker_and_its_successor_never_overlap(
    url: str, tmp_path: Path, env: dict[str, str]
) -> None:
    settings = {**env, "WEB_CONCURRENCY": "2", "RONIN_LEASE_SECONDS": "2"}
    path = tmp_path / "times"
    with gunicorn(url, tmp_path, env=settings) as cluster:
        ready(cluster)
        task = post(cluster, "writing", path=str(path), attempts=2)
        eventually(lambda: times(path, 1))
        name = next(worker for worker, jobs in held(url).items() if "writing" in jobs)
        frozen = cluster.workers()[name]
        frozen.suspend()
        try:
            eventually(lambda: len(times(path, 2)) > 10)
            assert frozen.status() == psutil.STATUS_STOPPED
        finally:
            frozen.resume()
        eventually(lambda: "fenced" in outcomes(url))
        assert max(times(path, 1)) < min(times(path, 2))
        before = len(times(path, 1))
        cluster.http.delete(f"/tasks/{task}").raise_for_status()
        over(cluster, task)
        assert len(times(path, 1)) == before
        assert ends(cluster, task)[0] == "crashed"
    sound(url)


@pytest.fixture
def remote_worker(service: Instance, tmp_path: Path, env: dict[str, str]) -> Iterator[psutil.Popen]:
    """A remote worker of the service, which knows no database."""
    command = [sys.executable, "-m", "cluster.remote", "--kinds", "far"]
    address = ["--url", f"http://127.0.0.1:{service.port}", "--name", "remote:1"]
    away = {**os.environ, **env, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    with (tmp_path / "remote.log").open("wb") as output:
        worker = psutil.Popen(
            [*command, *address], cwd=ROOT, env=away, stdout=output, stderr=output
        )
    try:
        yield worker
    finally:
        if worker.is_running():
            worker.kill()
        worker.wait()


def test_remote_worker_ends_an_isolated_task_that_holds_the_interpreter(
    service: Instance, remote_worker: psutil.Popen, tmp_path: Path
) -> None:
    task = post(service, "far", path=str(tmp_path / "pid"))
    hog = performer(tmp_path / "pid")
    assert remote_worker.pid in [each.pid for each in hog.parents()]
    assert over(service, task)["status_name"] == "ERROR"
    assert ends(service, task) == ["timed_out"]
    eventually(lambda: gone(hog))
    assert remote_worker.is_running()


def test_frozen_remote_worker_can_not_hold_on_to_an_isolated_task(
    service: Instance, remote_worker: psutil.Popen, tmp_path: Path
) -> None:
    post(service, "far", path=str(tmp_path / "pid"))
    hog = performer(tmp_path / "pid")
    remote_worker.suspend()
    eventually(lambda: gone(hog), within=40)
    assert remote_worker.status() == psutil.STATUS_STOPPED
