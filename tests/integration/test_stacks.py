"""Where is it now? Asked anywhere, answered by whoever performs the run, or refused."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest

from cluster import Run
from cluster.database import Pool
from cluster.job import Job
from cluster.run import Claim
from cluster.store import leases, questions
from cluster.where import NO_ANSWER
from tests.eventually import eventually
from tests.integration.builders import (
    Web,
    a_worker,
    asked,
    end,
    execute,
    finished,
    jobs_row,
    query,
    taken,
)
from tests.integration.voices import Listening, listening

JOBS = """
import ctypes, os, time
from pathlib import Path
from cluster import Run, task

def begun(path):
    Path(path).with_suffix(".new").write_text(str(os.getpid()))
    Path(path).with_suffix(".new").rename(path)

@task(name="spin", isolation="process")
def spin(path: str) -> None:
    begun(path)
    round_and_round()

def round_and_round():
    while True:
        pass

@task(name="hold", isolation="process")
def hold(path: str) -> None:
    begun(path)
    while True:
        ctypes.PyDLL(None).usleep(900_000)  # no other thread of this interpreter runs meanwhile

@task(name="sleep", isolation="process")
def sleep(path: str) -> float:
    begun(path)
    start = time.monotonic()
    time.sleep(3)
    return time.monotonic() - start
"""


@pytest.fixture
def runs(url: str) -> Iterator[Listening]:
    """Yield a runner whose runs can be asked where they are."""
    with listening(url) as found:
        yield found


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a job in a process of its own says that it has begun."""
    (tmp_path / "own_jobs.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RONIN_JOBS", "own_jobs")
    return tmp_path / "pid"


def claim_of(pool: Pool, kind: str = "work", **args: Any) -> Claim:
    """Return the claim of a new task."""
    jobs_row(pool, kind)
    asked(pool, kind=kind, args=args)
    (claim,) = taken(pool, kind)
    return claim


def performed(
    runs: Listening, pool: Pool, kind: str, path: Path, *, asked: bool = False
) -> tuple[Claim, psutil.Process]:
    """Start a run in a process of its own; return its claim, and the process once it has begun."""
    claim = claim_of(pool, kind, path=str(path))
    if asked:
        questions.ask(pool, claim.id)
    job = Job(name=kind, function=lambda: None, isolation="process", timeout=60)
    runs.start_job(job, claim)
    return claim, psutil.Process(int(eventually(path.read_text)))


def stack(pool: Pool, run: UUID, within: float = 10) -> str:
    """Ask where a run is, and return the answer."""
    web = Web(pool)
    question = web.ask("POST", f"/runs/{run}/stack")
    assert (question.status, question.body["stack"]) == (202, None)

    def answered() -> dict[str, Any] | None:
        body: dict[str, Any] = web.get(f"/runs/{run}/stack").body
        return body if body["answered_at"] else None

    body = eventually(answered, within=within) or {}
    assert set(body) == {"attempt", "worker", "asked_at", "answered_at", "stack"}
    assert (body["attempt"], body["worker"]) == (1, "host:1")
    return str(body["stack"])


def wait_here(run: Run) -> None:
    """Wait until told to stop."""
    run.wait(60)


def test_a_thread_says_where_it_waits(runs: Listening, pool: Pool) -> None:
    """The stack begins with the job's function, and its last call comes last."""
    claim = runs.start(wait_here, claim_of(pool))
    found = stack(pool, claim.id)
    assert found.splitlines()[0].endswith("in wait_here")
    assert found.splitlines()[1].strip() == "run.wait(60)"
    assert "in wait\n" in found
    again = stack(pool, claim.id)
    assert again.splitlines()[0] == found.splitlines()[0]


def test_each_is_answered_by_whoever_performs_it(url: str, pool: Pool) -> None:
    """Of several workers at one database each knows its own runs."""
    ways: dict[UUID, str] = {}
    gate = threading.Event()

    def there() -> None:
        gate.wait(60)

    with ExitStack() as stack_:
        for function in (wait_here, there):
            runs = stack_.enter_context(listening(url))
            ways[runs.start(function, claim_of(pool)).id] = function.__name__
        for run, name in ways.items():
            assert f"in {name}\n" in stack(pool, run)
        gate.set()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
@pytest.mark.parametrize(("kind", "name"), [("spin", "round_and_round"), ("hold", "hold")])
def test_a_process_says_where_it_is_in_a_loop_and_in_c(
    runs: Listening, pool: Pool, path: Path, kind: str, name: str
) -> None:
    """Whatever it does and whoever has the interpreter's lock; and it goes on doing it."""
    claim, process = performed(runs, pool, kind, path)
    for _ in range(2):
        found = stack(pool, claim.id)
        assert found.splitlines()[0].endswith(f"in {kind}")
        assert found.splitlines()[-2].endswith(f"in {name}")
    assert process.is_running()
    runs.runner.stop("interrupted")
    runs.ended(1)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_process_that_is_asked_goes_on_as_if_it_were_not(
    runs: Listening, pool: Pool, path: Path
) -> None:
    """A sleep is as long as it was to be, and the result is the function's."""
    claim, _ = performed(runs, pool, "sleep", path)
    assert "time.sleep(3)" in stack(pool, claim.id)
    (result,) = runs.ended(1)
    assert result.outcome == "completed"
    assert 3 <= float(result.value or 0) < 30


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_process_may_be_asked_before_it_can_answer(
    runs: Listening, pool: Pool, path: Path
) -> None:
    """The question neither ends it nor is forgotten."""
    claim, process = performed(runs, pool, "spin", path, asked=True)
    eventually(lambda: (questions.last(pool, claim.id) or {})["stack"])
    assert "in spin\n" in stack(pool, claim.id)
    assert process.is_running()
    runs.runner.stop("interrupted")
    assert [result.outcome for result in runs.ended(1)] == ["interrupted"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_process_that_is_frozen_does_not_answer_and_others_do(
    runs: Listening, pool: Pool, path: Path
) -> None:
    """The answer says so; nobody waits for it."""
    claim, process = performed(runs, pool, "spin", path)
    process.send_signal(signal.SIGSTOP)
    other = runs.start(wait_here, claim_of(pool))
    questions.ask(pool, claim.id)
    assert "in wait_here\n" in stack(pool, other.id)
    assert stack(pool, claim.id, within=20) == NO_ANSWER
    process.send_signal(signal.SIGCONT)
    eventually(lambda: "in round_and_round\n" in stack(pool, claim.id))
    runs.runner.stop("interrupted")
    runs.ended(2)


def test_what_nobody_performs_cannot_be_asked(pool: Pool) -> None:
    """409 for a run that waits or is over, 404 for one that is not, or that nobody asked."""
    web = Web(pool)
    jobs_row(pool, "work")
    over = finished(pool)
    (waiting,) = asked(pool)
    for run in (waiting, over):
        assert web.ask("POST", f"/runs/{run}/stack").problem == "run-not-running"
        assert web.get(f"/runs/{run}/stack").problem == "not-asked"
    for method in ("GET", "POST"):
        found = web.ask(method, f"/runs/{uuid4()}/stack")
        assert (found.status, found.problem) == (404, "unknown-run")


def test_what_a_remote_worker_performs_cannot_be_asked(pool: Pool) -> None:
    """409 says so."""
    with pool.connection() as connection:
        worker = leases.lend(connection, "far", ["work"], 600)
    jobs_row(pool, "work")
    (task,) = asked(pool)
    a_worker(pool)  # opens the runs
    (claim,) = taken(pool, worker=worker)
    assert claim.id == task
    found = Web(pool).ask("POST", f"/runs/{task}/stack")
    assert (found.status, found.problem) == (409, "run-remote")
    assert query(pool, "SELECT FROM question") == []


def test_an_answer_stays_when_the_run_is_over_and_goes_in_an_hour(
    runs: Listening, pool: Pool
) -> None:
    """Whoever asks about another run sweeps what is old."""
    claim = runs.start(wait_here, claim_of(pool))
    stack(pool, claim.id)
    runs.runner.stop("interrupted")
    runs.ended(1)
    end(pool, claim, "completed")
    assert Web(pool).get(f"/runs/{claim.id}/stack").body["stack"]
    other = claim_of(pool)
    assert questions.ask(pool, other.id)
    assert questions.last(pool, claim.id)
    execute(pool, "UPDATE question SET asked_at = now() - interval '61 min'")
    assert questions.ask(pool, other.id)
    assert questions.last(pool, claim.id) is None
    assert questions.last(pool, other.id)
