"""A suspect in a process of its own: whatever it does, the worker gets an answer and lives."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from cluster.apart import perform_apart
from cluster.perform import Result
from cluster.run import Run, RunStopped
from tests.eventually import eventually
from tests.integration.apart import attempt_of, gone, gone_pid, suspect
from tests.unit.builders import no_connection

pytestmark = pytest.mark.timeout(60)

JOBS = """
import ctypes, os, subprocess, sys, threading, time
from pathlib import Path
from cluster import Discard, Run, task

@task()
def add(a: int, b: int, run: Run) -> dict:
    return {"sum": a + b, "run": str(run.id), "attempt": run.attempt, "due": run.due_at}

@task()
def measure(text: str) -> int:
    return len(text)

@task()
def fail() -> None:
    raise ValueError("no such thing")

@task()
def discard() -> None:
    raise Discard("never again")

@task()
def read_stdin() -> str:
    return sys.stdin.read()

@task()
def die(number: int) -> None:
    for line in range(30):
        print("line", line)
    print("the last words", end="")
    os.kill(os.getpid(), number)
    time.sleep(60)

@task()
def segfault() -> None:
    ctypes.string_at(0)

@task()
def leave(code: int) -> None:
    os._exit(code)

@task()
def system_exit() -> None:
    sys.exit(3)

@task()
def count(run: Run) -> None:
    for step in range(1001):
        run.progress(step / 1000)
    run.wait(60)

@task()
def deaf(run: Run) -> str:
    run.progress(0.5)
    while not run.told:
        time.sleep(0.01)
    return "done"

@task()
def shout(run: Run) -> str:
    sys.stdout.write("x" * 5_000_000)
    for number in range(100_000):
        print("a line of output, number", number)
    return "y" * 60_000

@task()
def outrun(run: Run, path: str) -> None:
    said(path)
    run.progress(0.5)
    while Path(path).exists():
        time.sleep(0.01)
    print("the last words")
    os._exit(3)

@task()
def leave_grandchild(noisy: bool, escapes: bool, path: str) -> None:
    command = "while :; do echo still here; done" if noisy else "sleep 600"
    child = subprocess.Popen(["sh", "-c", command], start_new_session=escapes)
    Path(path).write_text(str(child.pid))
    print("the last words")
    os._exit(3)

@task()
def fork(path: str) -> str:
    child = os.fork()  # it holds every pipe that we have
    if not child:
        time.sleep(600)
    Path(path).write_text(str(child))
    return "forked"

@task()
def leave_thread() -> str:
    threading.Thread(target=time.sleep, args=(600,)).start()
    return "done"

@task()
def database(run: Run) -> int:
    with run.connection() as connection:
        return connection.execute("SELECT count(*) FROM run").fetchone()[0]

def said(path: str) -> None:
    Path(path).with_suffix(".new").write_text(str(os.getpid()))
    Path(path).with_suffix(".new").rename(path)

@task()
def wait(path: str) -> None:
    said(path)
    time.sleep(600)

@task()
def wait_unknown_to_the_kernel(path: str) -> None:
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG: no signal
    said(path)
    time.sleep(600)

@task()
def wait_without_threads(path: str) -> None:
    said(path)
    ctypes.PyDLL(None).sleep(600)  # the interpreter's lock is held
"""


@pytest.fixture(autouse=True)
def _jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_jobs.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RONIN_JOBS", "own_jobs")


@pytest.fixture
def grandchild(tmp_path: Path) -> Iterator[Path]:
    """Yield where a job notes the pid of a process that it leaves behind; end that."""
    path = tmp_path / "grandchild"
    yield path
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(path.read_text())).kill()


def performed(job: str, url: str | None = None, **args: Any) -> Result:
    """Return how a job came back from a process of its own."""
    return perform_apart(attempt_of(suspect(job, **args)), url=url)


def test_a_value_comes_back() -> None:
    claim = suspect("add", a=2, b=3)
    result = perform_apart(attempt_of(claim), url=None)
    assert result.outcome == "completed"
    assert orjson.loads(result.value or "") == {
        "sum": 5,
        "run": str(claim.id),
        "attempt": claim.attempt,
        "due": claim.due_at.isoformat(),
    }


def test_an_exception_is_a_failure_with_its_traceback() -> None:
    result = performed("fail")
    assert (result.outcome, result.error) == ("failed", "ValueError: no such thing")
    assert "own_jobs.py" in (result.traceback or "")
    assert not result.final


def test_an_order_may_be_larger_than_a_pipe() -> None:
    assert performed("measure", text="x" * 2_000_000).value == "2000000"


def test_arguments_that_do_not_fit_fail_for_good() -> None:
    result = performed("add", a="2")
    assert (result.outcome, result.final) == ("failed", True)


def test_a_refusal_fails_for_good() -> None:
    result = performed("discard")
    assert (result.outcome, result.error, result.final) == ("failed", "never again", True)


def test_an_unknown_job_fails_for_good() -> None:
    result = performed("no-such-job")
    assert (result.outcome, result.final) == ("failed", True)
    assert "no-such-job" in (result.error or "")


def test_jobs_that_can_not_be_loaded_are_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RONIN_JOBS", "not_there")
    result = performed("add", a=2, b=3)
    assert (result.outcome, result.final) == ("failed", False)
    assert "not_there" in (result.error or "")


def test_no_process_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    result = performed("add", a=2, b=3)
    assert (result.outcome, result.final) == ("failed", False)
    assert "/no/such/python" in (result.error or "")


def test_modules_are_found_where_the_worker_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert performed("add", a=2, b=3).outcome == "completed"


def test_a_job_that_reads_stdin_finds_it_empty() -> None:
    assert performed("read_stdin").value == '""'


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (15, "SIGTERM")])
def test_a_signal_is_named_with_the_last_lines(
    number: int, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = performed("die", number=number)
    assert result.outcome == "crashed"
    head, _, tail = (result.error or "").partition("; last lines of its output: ")
    assert head == f"its process died: signal {number} ({name})"
    assert tail.split("\n") == [*(f"line {n}" for n in range(11, 30)), "the last words"]
    passed_on = capsys.readouterr().err
    assert "line 0\n" in passed_on
    assert "the last words\n" in passed_on


def test_a_segmentation_fault_says_where() -> None:
    result = performed("segfault")
    assert result.outcome == "crashed"
    assert "SIGSEGV" in (result.error or "")
    assert "own_jobs.py" in (result.error or "")


@pytest.mark.parametrize("code", [0, 3])
def test_an_exit_in_mid_run_is_named_with_its_code(code: int) -> None:
    result = performed("leave", code=code)
    assert result.outcome == "crashed"
    assert result.error == f"its process died: exit code {code}; it printed nothing"


def test_an_orderly_exit_is_a_failure_as_in_a_thread() -> None:
    result = performed("system_exit")
    assert (result.outcome, result.error) == ("failed", "SystemExit: 3")


class Watched(Run):
    """A run that notes what it hears of its progress."""

    heard: list[float]

    def progress(self, fraction: float) -> None:
        """Note it."""
        self.heard.append(fraction)
        super().progress(fraction)


def test_progress_arrives_and_the_outcome_is_as_told() -> None:
    claim = suspect("count")
    run = Watched(claim, no_connection)
    run.heard = []
    with ThreadPoolExecutor() as threads:
        result = threads.submit(perform_apart, attempt_of(claim, run), url=None)
        eventually(lambda: run.fraction == 1.0)
        run.stop("timed_out")
        assert result.result(10) == Result("timed_out", "told to stop")
    assert run.heard[-1] == 1.0
    assert len(run.heard) < 100


def test_the_word_to_stop_reaches_a_job_that_does_not_look() -> None:
    claim = suspect("deaf")
    run = Run(claim, no_connection)
    with ThreadPoolExecutor() as threads:
        result = threads.submit(perform_apart, attempt_of(claim, run), url=None)
        eventually(lambda: run.fraction == 0.5)
        run.stop("cancelled")
        assert result.result(10) == Result("completed", value='"done"')


def test_a_run_told_before_it_began_stops_at_once() -> None:
    claim = suspect("count")
    run = Run(claim, no_connection)
    run.stop("interrupted")
    assert perform_apart(attempt_of(claim, run), url=None) == Result("interrupted", "told to stop")
    with pytest.raises(RunStopped):
        run.check()


def test_megabytes_of_output_block_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    result = performed("shout")
    assert (result.outcome, result.value) == ("completed", f'"{"y" * 60_000}"')
    passed_on = capsys.readouterr().err
    assert passed_on.count("x") == 5_000_000
    assert passed_on.endswith("a line of output, number 99999\n")


class Slow(Run):
    """A run whose worker has no time for the child until that is dead."""

    child: Path

    def progress(self, fraction: float) -> None:
        """Let the child go on, and wait for its end."""
        child = psutil.Process(int(self.child.read_text()))
        self.child.unlink()
        eventually(lambda: gone(child))
        super().progress(fraction)


def test_what_it_left_in_the_pipe_is_read_after_its_death(tmp_path: Path) -> None:
    claim = suspect("outrun", path=str(tmp_path / "pid"))
    run = Slow(claim, no_connection)
    run.child = tmp_path / "pid"
    result = perform_apart(attempt_of(claim, run), url=None)
    assert (result.error or "").endswith("exit code 3; last lines of its output: the last words")


@pytest.mark.parametrize("escapes", [False, True])
@pytest.mark.parametrize("noisy", [False, True])
def test_a_grandchild_holds_up_nothing_and_goes_along_unless_it_escapes(
    grandchild: Path, noisy: bool, escapes: bool
) -> None:
    result = performed("leave_grandchild", noisy=noisy, escapes=escapes, path=str(grandchild))
    assert escapes or eventually(lambda: gone_pid(grandchild))
    assert (result.outcome, "exit code 3" in (result.error or "")) == ("crashed", True)
    assert noisy or (result.error or "").endswith("the last words")


def test_a_forked_grandchild_that_holds_every_pipe_holds_up_nothing(grandchild: Path) -> None:
    assert performed("fork", path=str(grandchild)) == Result("completed", value='"forked"')
    eventually(lambda: gone_pid(grandchild))


def test_a_thread_left_behind_holds_up_nothing() -> None:
    assert performed("leave_thread") == Result("completed", value='"done"')


def test_the_database_is_in_reach(url: str) -> None:
    assert performed("database", url).value == "0"


def test_without_a_database_a_connection_is_refused_clearly() -> None:
    result = performed("database")
    assert result.outcome == "failed"
    refusal = "this process was given no database to connect to"
    assert result.error == f"psycopg.OperationalError: {refusal}"


WORKER = """
import sys, orjson
from pydantic import TypeAdapter
from cluster.apart import perform_apart
from cluster.run import Claim, Run
from cluster.runner import Attempt
from tests.unit.builders import a_job
claim = TypeAdapter(Claim).validate_json(sys.stdin.readline())
perform_apart(Attempt(claim, a_job(), Run(claim, None), 0), url=None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="two of them are about prctl")
@pytest.mark.parametrize("job", ["wait", "wait_unknown_to_the_kernel", "wait_without_threads"])
def test_the_child_dies_with_its_worker(job: str, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE) as worker:
        assert worker.stdin
        worker.stdin.write(orjson.dumps(suspect(job, path=str(path))._asdict()) + b"\n")
        worker.stdin.flush()
        child = psutil.Process(int(eventually(path.read_text)))
        keeper = psutil.Process(child.ppid())
        assert keeper.ppid() == worker.pid
        assert os.getsid(child.pid) == os.getsid(keeper.pid) == keeper.pid
        worker.kill()
    eventually(lambda: gone(child) and gone(keeper), within=5)
