"""Isolated runs: they end when they have to, whatever they do and whoever is killed or frozen."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from cluster import process
from cluster.apart import perform_apart
from cluster.perform import Result
from cluster.process import Identity
from cluster.runner import Attempt
from tests.eventually import eventually
from tests.integration.apart import attempt_of, gone, gone_pid, suspect

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's"),
]

JOBS = """
import ctypes, os, subprocess, time
from pathlib import Path
from cluster import Run, task

def said(path, text=""):
    Path(path).with_suffix(".new").write_text(text or str(os.getpid()))
    Path(path).with_suffix(".new").rename(path)

def hold_the_lock():
    ctypes.PyDLL(None).sleep(600)  # no other thread of this interpreter runs meanwhile

@task()
def spin(path: str) -> None:
    said(path)
    try:
        while True:
            pass
    finally:
        said(path + ".end", "tidied up")

@task()
def sleep(path: str) -> None:
    said(path)
    time.sleep(600)

@task()
def hog(path: str) -> None:
    said(path)
    hold_the_lock()

@task()
def stubborn(path: str) -> None:
    said(path)
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass

@task()
def parent(path: str) -> None:
    child = subprocess.Popen(["sleep", "600"])
    said(path + ".child", str(child.pid))
    said(path)
    hold_the_lock()

@task()
def deaf(path: str) -> str:
    said(path)
    while not Path(path + ".go").exists():
        time.sleep(0.01)
    return "done"

@task(isolation="process", memory_mib=64)
def grow() -> int:
    found = []
    while True:
        found.append([0] * 1000)

@task(isolation="process", memory_mib=64)
def grow_at_once(mib: int) -> int:
    return len(bytearray(mib * 2**20)) >> 20

@task(isolation="process", memory_mib=64)
def grow_in_c() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    ctypes.memset(library.malloc(ctypes.c_size_t(2**27)), 1, 2**27)  # as C does that never checks
"""
SPINS = ["spin", "sleep", "stubborn", "hog", "parent"]


@pytest.fixture(autouse=True)
def _jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_jobs.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RONIN_JOBS", "own_jobs")


class Performed:
    """An attempt under way in processes of its own, and these."""

    def __init__(self, threads: ThreadPoolExecutor, path: Path, attempt: Attempt) -> None:
        self.attempt = attempt
        self.path = path
        self.future: Future[Result] = threads.submit(perform_apart, attempt, url=None)
        self.performer = psutil.Process(int(eventually(path.read_text)))
        self.keeper = psutil.Process(self.performer.ppid())

    def result(self) -> Result:
        """Return how it came back; by then nothing of it is left."""
        result = self.future.result(60)
        assert gone(self.performer)
        assert gone(self.keeper)
        return result

    @property
    def child(self) -> Path:
        """Where the job `parent` has noted the process that it started."""
        return Path(f"{self.path}.child")


@contextmanager
def performing(job: str, path: Path) -> Iterator[Performed]:
    """Have a job performed that says at `path` that it has begun."""
    attempt = attempt_of(suspect(job, path=str(path)))
    with ThreadPoolExecutor() as threads:
        under_way = Performed(threads, path, attempt)
        try:
            yield under_way
        finally:
            attempt.stop("interrupted")


@pytest.mark.parametrize(
    ("job", "reason", "how"),
    [
        *((job, "timed_out", "timed out after 5 s") for job in SPINS),
        ("hog", "cancelled", "cancelled"),
        ("hog", "interrupted", "interrupted"),
    ],
)
def test_what_has_to_stop_at_once_does(job: str, reason: str, how: str, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with performing(job, path) as run:
        run.attempt.stop(reason)
        result = run.result()
    if job in ("spin", "sleep"):
        assert result == Result(reason, "told to stop")
    else:
        assert result == Result(reason, f"{how}; it did not stop by itself and was killed")
    if job == "spin":
        assert Path(f"{path}.end").read_text() == "tidied up"
    if job == "parent":
        assert gone_pid(run.child)


def test_who_only_hears_of_a_departure_may_finish(tmp_path: Path) -> None:
    with performing("deaf", tmp_path / "pid") as run:
        run.attempt.run.stop("interrupted")
        (tmp_path / "pid.go").touch()
        assert run.result() == Result("completed", value='"done"')


def test_a_departure_may_become_urgent(tmp_path: Path) -> None:
    with performing("hog", tmp_path / "pid") as run:
        run.attempt.run.stop("interrupted")
        run.attempt.stop("timed_out")
        assert run.result().outcome == "interrupted"


@pytest.mark.parametrize("job", ["sleep", "parent"])
def test_nobody_works_for_a_worker_that_is_not_to_be_trusted(job: str, tmp_path: Path) -> None:
    with performing(job, tmp_path / "pid") as run:
        run.attempt.trusted_until = time.monotonic() + 0.5
        reason = "its worker could not renew the lease in time, and it was killed"
        assert run.result() == Result("interrupted", reason)
        assert time.monotonic() >= run.attempt.trusted_until


def test_trust_may_be_renewed(tmp_path: Path) -> None:
    with performing("deaf", tmp_path / "pid") as run:
        begun = time.monotonic()
        while time.monotonic() < begun + 6:
            run.attempt.trusted_until = time.monotonic() + 4
            assert not run.future.done()
            time.sleep(0.1)
        (tmp_path / "pid.go").touch()
        assert run.result().outcome == "completed"


def test_a_worker_that_is_not_to_be_trusted_from_the_start_gets_no_result(tmp_path: Path) -> None:
    attempt = attempt_of(suspect("hog", path=str(tmp_path / "pid")))
    attempt.trusted_until = time.monotonic() - 1
    assert perform_apart(attempt, url=None).outcome == "interrupted"


def test_a_killed_performer_takes_along_whom_it_started(tmp_path: Path) -> None:
    with performing("parent", tmp_path / "pid") as run:
        run.performer.kill()
        reason = "its process died: signal 9 (SIGKILL); it printed nothing"
        assert run.result() == Result("crashed", reason)
        assert gone_pid(run.child)


def test_with_a_killed_keeper_all_are_gone_before_the_run_may_be_done_again(tmp_path: Path) -> None:
    with performing("parent", tmp_path / "pid") as run:
        run.keeper.kill()
        reason = "its keeper died: signal 9 (SIGKILL); it printed nothing"
        assert run.result() == Result("crashed", reason)
        eventually(lambda: gone_pid(run.child))


def test_a_frozen_keeper_is_killed_when_it_should_have_acted(tmp_path: Path) -> None:
    with performing("hog", tmp_path / "pid") as run:
        run.keeper.suspend()
        run.attempt.stop("timed_out")
        assert (run.result().error or "").endswith("was killed, and so was its keeper")


# Memory.


def limited(job: str, **args: Any) -> Result:
    """Return how a job came back that has a limit."""
    return perform_apart(attempt_of(suspect(job, **args)), url=None)


@pytest.mark.parametrize(("job", "args"), [("grow", {}), ("grow_at_once", {"mib": 65})])
def test_more_memory_than_allowed_is_a_failure_that_names_the_limit(
    job: str, args: dict[str, int]
) -> None:
    result = limited(job, **args)
    assert (result.outcome, result.error) == (
        "failed",
        "MemoryError: over its limit, memory_mib=64",
    )
    assert "own_jobs.py" in (result.traceback or "")


def test_memory_within_the_limit_is_there() -> None:
    assert limited("grow_at_once", mib=60) == Result("completed", value="60")


def test_c_code_that_dies_of_the_limit_is_a_crash_with_evidence() -> None:
    result = limited("grow_in_c")
    assert result.outcome == "crashed"
    assert "SIGSEGV" in (result.error or "")
    assert "own_jobs.py" in (result.error or "")


# The end of a worker.

WORKER = """
import os, sys, threading, time, orjson
from pydantic import TypeAdapter
from cluster.apart import perform_apart
from cluster.run import Claim, Run
from cluster.runner import Attempt
from tests.unit.builders import a_job
claim = TypeAdapter(Claim).validate_json(sys.stdin.readline())
attempt = Attempt(claim, a_job(), Run(claim, None), 0)
def renew():
    while True:
        attempt.trusted_until = time.monotonic() + 4
        time.sleep(0.1)
if sys.argv[1] == "renew":
    threading.Thread(target=renew, daemon=True).start()
threading.Thread(target=perform_apart, args=(attempt,), kwargs={"url": None}, daemon=True).start()
for line in sys.stdin:
    bystander = os.fork()  # it holds every pipe that this process has
    if not bystander:
        time.sleep(600)
    print(bystander, flush=True)
"""


class Alone:
    """A worker process that has a job performed."""

    def __init__(self, worker: subprocess.Popen[bytes], path: Path) -> None:
        self.popen = worker
        self.worker = psutil.Process(worker.pid)
        self.performer = psutil.Process(int(eventually(path.read_text)))
        self.keeper = psutil.Process(self.performer.ppid())
        stat = Path(f"/proc/{worker.pid}/stat").read_text()
        started = int(stat.rpartition(")")[2].split()[19])
        self.identity = Identity(process.identity().host, worker.pid, started)

    def all_gone(self) -> bool:
        """Return whether neither keeper nor performer lives."""
        return gone(self.keeper) and gone(self.performer)


@contextmanager
def alone(job: str, path: Path, how: str = "for ever") -> Iterator[Alone]:
    """Start a worker process; end whatever is left of it."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdin
        worker.stdin.write(orjson.dumps(suspect(job, path=str(path))._asdict()) + b"\n")
        worker.stdin.flush()
        found = Alone(worker, path)
        try:
            yield found
        finally:
            for each in (found.performer, found.keeper, found.worker):
                if not gone(each):
                    each.kill()


@pytest.mark.parametrize("job", ["sleep", "parent"])
def test_nothing_survives_a_killed_worker(job: str, tmp_path: Path) -> None:
    with alone(job, tmp_path / "pid") as left:
        left.worker.kill()
        left.popen.wait()
        eventually(left.all_gone)
        eventually(lambda: process.is_dead(left.identity))
        assert job != "parent" or eventually(lambda: gone_pid(tmp_path / "pid.child"))


def test_a_pipe_that_somebody_else_holds_does_not_hide_the_workers_end(tmp_path: Path) -> None:
    with alone("hog", tmp_path / "pid") as left:
        assert left.popen.stdin
        assert left.popen.stdout
        left.popen.stdin.write(b"fork\n")
        left.popen.stdin.flush()
        bystander = psutil.Process(int(left.popen.stdout.readline()))
        left.worker.kill()
        eventually(left.all_gone)
        assert not gone(bystander)
        bystander.kill()


def test_a_frozen_worker_can_not_hold_on_to_what_it_is_not_trusted_with(tmp_path: Path) -> None:
    with alone("hog", tmp_path / "pid", "renew") as left:
        left.worker.suspend()
        eventually(left.all_gone)
        assert left.worker.status() == psutil.STATUS_STOPPED


def test_a_performer_dies_with_its_keeper_whatever_the_worker_does(tmp_path: Path) -> None:
    with alone("hog", tmp_path / "pid") as left:
        left.worker.suspend()
        left.keeper.kill()
        eventually(lambda: gone(left.performer))


def test_a_worker_is_not_dead_while_somebody_performs_for_it(tmp_path: Path) -> None:
    with alone("hog", tmp_path / "pid") as left:
        left.keeper.suspend()
        left.worker.kill()
        left.popen.wait()
        assert process.is_gone(left.identity)
        assert not process.is_dead(left.identity)
        left.keeper.resume()
        eventually(lambda: process.is_dead(left.identity))
        eventually(left.all_gone)  # past its last instruction a process is there for a moment


def test_keeper_and_performer_both_say_for_whom_they_work(tmp_path: Path) -> None:
    with alone("hog", tmp_path / "pid") as left:
        mark = process.mark(left.identity)
        assert mark in left.keeper.cmdline()
        assert mark in left.performer.cmdline()
