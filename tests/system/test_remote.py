"""Remote workers: real processes that know the service by HTTP alone, and how they can fail."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.eventually import eventually
from tests.system.facts import unsound
from tests.system.gunicorns import ROOT, Instance, gunicorn, job_module, ready

KINDS = """
import time
from cluster import Run, task

@task(remote=True)
def add(run: Run, left: int, right: int) -> int:
    return left + right

@task(remote=True)
def last(run: Run, seconds: float) -> str:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        run.progress(1 - left / seconds)
        run.wait(0.05)
    return f"attempt {run.attempt}"

@task(remote=True)
def deaf(run: Run, seconds: float) -> str:
    time.sleep(seconds)
    return f"attempt {run.attempt}"

@task(remote=True)
def borrow(run: Run) -> None:
    with run.connection():
        pass

@task(remote=True)
def shout(text: str) -> str: ...
"""
STUBBORN_JOB = """
import time
from cluster import job, task

@job(every="1d", at_once=True)
def stubborn() -> None:
    time.sleep(8)

@task()
def nothing() -> None:
    pass
"""
LEASE = {"RONIN_LEASE_SECONDS": "2", "WEB_CONCURRENCY": "2"}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Settings under which the service and its workers know the same kinds."""
    return {**LEASE, **job_module(tmp_path, KINDS)}


@pytest.fixture
def service(url: str, tmp_path: Path, settings: dict[str, str]) -> Iterator[Instance]:
    """A service with kinds of tasks that nobody in it performs."""
    with gunicorn(url, tmp_path, env=settings) as instance:
        ready(instance)
        yield instance
    contradictions = unsound(url)
    contradictions.pop("each job has one run", None)  # a kind of tasks has as many as are asked for
    assert contradictions == {}


@pytest.fixture
def start(
    service: Instance, tmp_path: Path, settings: dict[str, str]
) -> Iterator[Callable[[str], psutil.Popen]]:
    """Start a remote worker of a name; all end with the test."""
    started: list[psutil.Popen] = []

    def begin(name: str) -> psutil.Popen:
        program = [sys.executable, "-m", "cluster.remote", "--kinds", "add,last,deaf,borrow"]
        address = ["--url", f"http://127.0.0.1:{service.port}", "--name", name]
        # A database that is not there: a remote worker never asks for one.
        env = {**settings, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
        started.append(process([*program, *address], tmp_path / f"{name}.log", env))
        return started[-1]

    with ended(started):
        yield begin


@contextmanager
def ended(started: list[psutil.Popen]) -> Iterator[None]:
    """End processes however the block ends."""
    try:
        yield
    finally:
        for each in started:
            if each.is_running():
                each.kill()
            each.wait()


def process(command: Sequence[str], log: Path, env: dict[str, str]) -> psutil.Popen:
    with log.open("ab") as output:
        return psutil.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **env},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def post(service: Instance, kind: str, **args: object) -> str:
    """Ask for a task; return its id."""
    body = {"name": f"a task of {kind}", "kind": kind, "args": args}
    made: str = service.http.post("/tasks", json=body).raise_for_status().json()["task_id"]
    return made


def task(service: Instance, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = service.get(f"/tasks/{task_id}")
    return found


def over(service: Instance, task_id: str) -> dict[str, Any]:
    """Wait until a task is completed, or in error for good; return it."""

    def check() -> dict[str, Any] | None:
        found = task(service, task_id)
        return found if found["status_name"] in ("COMPLETED", "ERROR") else None

    found = eventually(check, within=40)
    assert found
    return found


def holder(service: Instance, task_id: str, *, unlike: str = "") -> str:
    """Wait until a worker has a task, another than the given one; return its name."""

    def check() -> str | None:
        found = task(service, task_id)
        worker = found["worker"] if found["status_name"] == "PROCESSING" else None
        return worker if worker != unlike else None

    found = eventually(check, within=40)
    assert found
    return found


def ends(service: Instance, task_id: str) -> list[tuple[str, str]]:
    """Return worker and outcome of each attempt, the first one first."""
    attempts = service.get(f"/tasks/{task_id}/attempts")
    return [(each["worker"], each["outcome"]) for each in attempts]


def test_remote_worker_completes_tasks_with_progress_and_result(
    service: Instance, start: Callable[[str], psutil.Popen]
) -> None:
    start("remote:1")
    quick = post(service, "add", left=2, right=3)
    assert over(service, quick)["result"] == 5
    slow = post(service, "last", seconds=3)
    assert eventually(lambda: 0 < (task(service, slow)["progress"] or 0) < 1)
    assert over(service, slow)["result"] == "attempt 1"
    assert ends(service, slow) == [("remote:1", "completed")]


def test_body_that_borrows_a_connection_fails_with_a_clear_reason(
    service: Instance, start: Callable[[str], psutil.Popen]
) -> None:
    start("remote:1")
    made = service.http.post(
        "/tasks", json={"name": "no database", "kind": "borrow", "max_retries": 0}
    ).json()
    found = over(service, made["task_id"])
    assert found["status_name"] == "ERROR"
    assert "a remote worker has no database" in found["error"]


def test_cancelled_task_stops_where_it_is_performed(
    service: Instance, start: Callable[[str], psutil.Popen]
) -> None:
    start("remote:1")
    cancelled = post(service, "last", seconds=3600)
    holder(service, cancelled)
    assert service.http.delete(f"/tasks/{cancelled}").is_success
    assert over(service, cancelled)["status_name"] == "ERROR"
    assert ends(service, cancelled) == [("remote:1", "cancelled")]


def test_task_of_a_killed_worker_is_done_once_more_elsewhere(
    service: Instance, start: Callable[[str], psutil.Popen]
) -> None:
    victim = start("remote:1")
    lost = post(service, "last", seconds=3)
    assert holder(service, lost) == "remote:1"
    victim.kill()
    start("remote:2")
    assert over(service, lost)["result"] == "attempt 2"
    assert ends(service, lost) == [("remote:1", "crashed"), ("remote:2", "completed")]


def test_late_report_of_a_worker_that_slept_past_its_lease_is_refused(
    service: Instance, start: Callable[[str], psutil.Popen], tmp_path: Path
) -> None:
    sleeper = start("remote:1")
    lost = post(service, "deaf", seconds=1)
    assert holder(service, lost) == "remote:1"
    sleeper.suspend()
    start("remote:2")
    assert holder(service, lost, unlike="remote:1") == "remote:2"
    sleeper.resume()
    assert over(service, lost)["result"] == "attempt 2"
    eventually(lambda: "outcome=fenced" in (tmp_path / "remote:1.log").read_text())
    assert "outcome=completed" not in (tmp_path / "remote:1.log").read_text()
    again = [end for end in ends(service, lost) if end[1] != "fenced"]
    assert again == [("remote:1", "crashed"), ("remote:2", "completed")]


def test_terminated_worker_gives_its_task_to_another(
    service: Instance, start: Callable[[str], psutil.Popen]
) -> None:
    leaving = start("remote:1")
    given = post(service, "last", seconds=3)
    assert holder(service, given) == "remote:1"
    start("remote:2")
    leaving.send_signal(signal.SIGTERM)
    assert leaving.wait() == 0
    found = over(service, given)
    assert found["worker"] == "remote:2"
    assert found["failures"] == 0
    *before, last = ends(service, given)
    assert set(before) == {("remote:1", "interrupted")}
    assert last == ("remote:2", "completed")


def test_outage_of_the_service_costs_no_result(
    url: str, tmp_path: Path, settings: dict[str, str]
) -> None:
    long = {**settings, "RONIN_LEASE_SECONDS": "3600"}
    log = tmp_path / "remote.log"
    started: list[psutil.Popen] = []
    with ended(started):
        with gunicorn(url, tmp_path, env=long) as service:
            ready(service)
            program = [sys.executable, "-m", "cluster.remote", "--kinds", "deaf"]
            address = ["--url", f"http://127.0.0.1:{service.port}", "--name", "remote:1"]
            started.append(process([*program, *address], log, settings))
            kept = post(service, "deaf", seconds=1)
            holder(service, kept)
            service.kill()
        eventually(lambda: log.read_text().count("no answer yet") >= 2)
        with gunicorn(url, tmp_path, env=long, port=service.port) as successor:
            assert over(successor, kept)["result"] == "attempt 1"
            assert ends(successor, kept) == [("remote:1", "completed")]


@pytest.mark.parametrize("concurrency", ["0", "2"])
def test_ctrl_c_of_honcho_leaves_the_service_its_time(
    url: str, tmp_path: Path, concurrency: str
) -> None:
    own = {"WEB_CONCURRENCY": "1", "RONIN_REMOTE": concurrency}
    env = {**own, **job_module(tmp_path, STUBBORN_JOB)}
    with gunicorn(url, tmp_path, env=env, command=("honcho", "start")) as both:
        ready(both)
        eventually(lambda: both.job("stubborn")["state"] == "running")
        eventually(lambda: ("remote.1 | " in both.said()) == (concurrency != "0"))
        os.killpg(both.process.pid, signal.SIGINT)
        both.wait()
        assert "SIGKILL" not in both.said()
        assert "web.1 stopped (rc=0)" in both.said()
        assert "remote.1 stopped (rc=0)" in both.said()
    assert unsound(url).keys() <= {"each job has one run"}


@pytest.mark.skipif(not shutil.which("node"), reason="the example is JavaScript")
def test_example_of_the_documentation_performs_a_task(service: Instance, tmp_path: Path) -> None:
    started: list[psutil.Popen] = []
    with ended(started):
        command = ["node", "docs/remote_worker.mjs", f"http://127.0.0.1:{service.port}"]
        started.append(process(command, tmp_path / "node.log", {}))
        done = over(service, post(service, "shout", text="hello"))
        assert done["result"] == "HELLO"
        assert done["worker"].endswith(f":{started[0].pid}")
