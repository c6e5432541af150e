"""The runner: functions in real threads, and how each came back."""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import NoReturn

import pytest

from cluster import Run, RunStopped
from cluster.job import Job
from cluster.perform import Result, storable
from cluster.run import Claim
from cluster.runner import Attempt, Runner
from tests.eventually import eventually
from tests.unit.builders import a_claim, a_job, no_connection


def nobody_apart(_attempt: Attempt) -> Result:
    """Stand where a suspect would be performed; nobody here is one."""
    raise AssertionError("no suspect here")


class Performed:
    """A runner with two slots, and what it was told and said."""

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.runner = Runner(2, no_connection, nobody_apart, self.woken.set)

    def start(self, function: Callable[..., object], **settings: object) -> Claim:
        """Start a run of the function; return its claim."""
        claim = a_claim()
        self.runner.start(claim, a_job(function=function, **settings))
        return claim

    def run(self, claim: Claim) -> Run:
        """Return what the function of a claim was handed."""
        return next(a.run for a in self.runner.attempts if a.claim.token == claim.token)

    def result(self) -> Result:
        """Return the next result once it is there."""
        return self.results(1)[0]

    def results(self, count: int) -> list[Result]:
        """Return that many results once they are there."""
        found: list[Result] = []

        def enough() -> bool:
            found.extend(result for _, result in self.runner.results())
            return len(found) >= count

        eventually(enough)
        return found


@pytest.fixture
def performed() -> Iterator[Performed]:
    """Yield a runner, and end what it runs."""
    running = Performed()
    yield running
    running.runner.stop("interrupted")


class Unspeakable(Exception):  # noqa: N818 - a situation of these tests
    """An error that can't even be shown."""

    def __str__(self) -> NoReturn:
        raise RuntimeError


def raising(error: BaseException) -> Callable[[], None]:
    """Return a function that raises the error."""

    def function() -> None:
        raise error

    return function


def test_a_function_that_returns_is_completed(performed: Performed) -> None:
    performed.start(lambda run: run.progress(0.5))
    result = performed.result()
    assert (result.outcome, result.error, result.traceback) == ("completed", None, None)


def test_a_function_without_parameters_is_called_without(performed: Performed) -> None:
    called = threading.Event()
    performed.start(lambda: called.set())  # noqa: PLW0108 - a method would show a parameter
    assert performed.result().outcome == "completed"
    assert called.is_set()


def test_an_error_is_a_failure_that_tells_what_and_where(performed: Performed) -> None:
    performed.start(raising(ValueError("too blue")))
    result = performed.result()
    assert (result.outcome, result.error) == ("failed", "ValueError: too blue")
    assert "in function" in (result.traceback or "")


@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_a_thread_is_a_failure(performed: Performed, error: BaseException) -> None:
    performed.start(raising(error))
    assert performed.result().outcome == "failed"


def test_an_error_that_cannot_be_shown_is_a_failure(performed: Performed) -> None:
    performed.start(raising(Unspeakable()))
    assert performed.result().outcome == "failed"


def test_a_thread_serves_on_after_an_error(performed: Performed) -> None:
    for _ in range(4):
        performed.runner.forget(performed.start(raising(SystemExit(1))).token)
        performed.result()
    performed.start(lambda: None)
    assert performed.result().outcome == "completed"


@contextmanager
def attended(
    *, enter: BaseException | None = None, leave: BaseException | None = None
) -> Iterator[None]:
    """Attend a run with what goes wrong there."""
    if enter:
        raise enter
    yield
    if leave:
        raise leave


@pytest.mark.parametrize("error", [ValueError("no spans"), SystemExit(1)])
def test_what_goes_wrong_before_a_run_is_its_failure(
    performed: Performed, error: BaseException
) -> None:
    """Its thread serves on; dead, it would leave an attempt that never ends."""
    called = threading.Event()
    performed.runner.attend = lambda _: attended(enter=error)
    claims = [performed.start(called.set) for _ in range(3)]
    results = performed.results(3)
    assert {result.outcome for result in results} == {"failed"}
    assert {result.error for result in results} == {f"{type(error).__name__}: {error}"}
    assert not called.is_set()
    performed.runner.attend = nullcontext
    for claim in claims:
        performed.runner.forget(claim.token)
    performed.start(lambda: None)
    assert performed.result().outcome == "completed"


@pytest.mark.parametrize("error", [ValueError("no spans"), SystemExit(1)])
def test_what_goes_wrong_after_a_run_changes_nothing(
    performed: Performed, error: BaseException
) -> None:
    performed.runner.attend = lambda _: attended(leave=error)
    performed.start(lambda: None)
    assert performed.result().outcome == "completed"


@pytest.mark.parametrize("reason", ["interrupted", "cancelled", "timed_out"])
def test_a_stopped_run_ends_with_the_reason(performed: Performed, reason: str) -> None:
    performed.start(lambda run: run.wait(100))
    performed.runner.stop(reason)
    assert performed.result().outcome == reason


def test_the_first_reason_to_stop_holds(performed: Performed) -> None:
    performed.start(lambda run: run.wait(100))
    performed.runner.stop("cancelled")
    performed.runner.stop("interrupted")
    assert performed.result().outcome == "cancelled"


def test_a_job_that_swallows_every_exception_still_stops(performed: Performed) -> None:
    def stubborn(run: Run) -> None:
        while True:
            try:
                run.wait(0.01)
            except Exception:  # noqa: BLE001, S112 - what some jobs do
                continue

    performed.start(stubborn)
    performed.runner.stop("interrupted")
    assert performed.result().outcome == "interrupted"


def test_a_function_that_returns_because_it_saw_the_stop_was_stopped(performed: Performed) -> None:
    performed.start(lambda run: eventually(lambda: run.cancelled))
    performed.runner.stop("interrupted")
    assert performed.result().outcome == "interrupted"


def test_a_function_that_never_looked_has_done_its_work(performed: Performed) -> None:
    gate = threading.Event()
    performed.start(lambda: gate.wait(20))
    performed.runner.stop("interrupted")
    gate.set()
    assert performed.result().outcome == "completed"


def test_an_error_of_a_stopped_run_is_a_failure(performed: Performed) -> None:
    def clumsy(run: Run) -> None:
        try:
            run.wait(100)
        finally:
            raise ValueError

    performed.start(clumsy)
    performed.runner.stop("interrupted")
    assert performed.result().outcome == "failed"


def test_a_stop_that_nobody_asked_for_is_a_failure(performed: Performed) -> None:
    performed.start(raising(RunStopped()))
    assert performed.result().outcome == "failed"


def test_a_wait_ends_at_once_when_the_run_has_to_stop(performed: Performed) -> None:
    waiting = threading.Event()

    def wait(run: Run) -> None:
        waiting.set()
        run.wait(1000)

    performed.start(wait)
    assert waiting.wait(20)
    performed.runner.stop("interrupted")
    assert eventually(performed.runner.results, within=5)


def test_a_wait_without_a_stop_is_over_in_time(performed: Performed) -> None:
    run = Run(a_claim(), no_connection)
    begun = time.monotonic()
    run.wait(0.02)
    run.wait(-1)
    assert 0.02 <= time.monotonic() - begun < 5
    assert not performed.runner.attempts


def test_every_call_of_a_stopped_run_raises() -> None:
    run = Run(a_claim(), no_connection)
    run.stop("cancelled")
    for call in (run.check, lambda: run.progress(0.5), lambda: run.wait(0)):
        with pytest.raises(RunStopped):
            call()
    assert run.cancelled


def test_only_runs_whose_time_is_over_are_stopped(performed: Performed) -> None:
    late = performed.start(lambda run: run.wait(100), timeout=0.001)
    other = performed.start(lambda run: run.wait(100), timeout=100)

    def stopped() -> bool:
        performed.runner.stop_overdue()
        return performed.run(late).cancelled

    eventually(stopped)
    assert performed.result().outcome == "timed_out"
    assert not performed.run(other).cancelled


def test_no_more_threads_run_than_there_are_slots(performed: Performed) -> None:
    seen: set[int] = set()
    gate = threading.Event()

    def function() -> None:
        seen.add(threading.get_ident())
        gate.wait(20)

    for _ in range(6):
        performed.start(function)
    eventually(lambda: len(seen) == 2)
    gate.set()
    performed.results(6)
    assert len(seen) == 2


def test_a_thread_is_used_again(performed: Performed) -> None:
    names = []
    for _ in range(5):
        claim = performed.start(lambda: names.append(threading.current_thread().name))
        performed.result()
        performed.runner.forget(claim.token)
    assert set(names) == {"run-1"}


def test_what_waits_is_never_left_to_threads_that_are_busy() -> None:
    """Each round, some tasks are over at once, and all others wait until they all are there."""
    slots, rounds = 8, 200
    runner = Runner(slots, no_connection, nobody_apart, lambda: None)
    for waiting in range(rounds):
        together = threading.Barrier(1 + waiting % slots)
        functions: list[Callable[[], object]] = [partial(together.wait, 20)] * together.parties
        functions += [lambda: None] * (slots - together.parties)
        for function in random.sample(functions, slots):
            runner.start(a_claim(), a_job(function=function))
        found: list[tuple[Attempt, Result]] = []
        while len(found) < slots:
            found += eventually(runner.results, every=0.001)
        assert {result.outcome for _, result in found} == {"completed"}
        for attempt, _ in found:
            runner.forget(attempt.claim.token)


def test_a_thread_that_can_not_be_had_costs_no_attempt(
    performed: Performed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is there takes what waits when it is free again."""
    gate = threading.Event()
    performed.start(lambda: gate.wait(20))

    def refuse(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    eventually(performed.runner._queue.empty)  # noqa: SLF001 - it is taken
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        performed.start(lambda: None)
        gate.set()
        assert [result.outcome for result in performed.results(2)] == ["completed"] * 2


def test_tasks_that_do_nothing_share_a_few_threads() -> None:
    ran: set[int] = set()
    runner = Runner(200, no_connection, nobody_apart, lambda: None)
    for _ in range(200):
        runner.start(a_claim(), a_job(function=lambda: ran.add(threading.get_ident())))
    eventually(lambda: not runner._queue.qsize())  # noqa: SLF001 - all are taken
    assert len(ran) < 100


def test_a_result_counts_as_load_until_it_is_forgotten(performed: Performed) -> None:
    claim = performed.start(lambda: None)
    performed.result()
    assert [a.claim for a in performed.runner.attempts] == [claim]
    performed.runner.forget(claim.token)
    performed.runner.forget(claim.token)
    assert not performed.runner.attempts


def test_a_result_is_given_once(performed: Performed) -> None:
    performed.start(lambda: None)
    performed.result()
    assert performed.runner.results() == []


def test_the_worker_is_woken_when_a_result_waits(performed: Performed) -> None:
    performed.start(lambda: None)
    assert performed.woken.wait(20)
    assert performed.runner.results()


@pytest.mark.parametrize(
    ("said", "kept"), [(-1, 0.0), (0, 0.0), (0.25, 0.25), (1, 1.0), (7, 1.0), (float("inf"), 1.0)]
)
def test_progress_lies_between_zero_and_one(said: float, kept: float) -> None:
    run = Run(a_claim(), no_connection)
    run.progress(said)
    assert run.fraction == kept


def test_progress_that_is_no_number_is_not_kept() -> None:
    run = Run(a_claim(), no_connection)
    run.progress(float("nan"))
    assert run.fraction is None or 0 <= run.fraction <= 1


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "\udfff", "é" * 10_000, "\x00" * 20_000])
def test_any_text_becomes_storable(text: str) -> None:
    kept = storable(text)
    assert "\x00" not in kept
    assert len(kept.encode()) <= 4 * 8192


def test_an_error_text_that_postgres_refuses_is_mended(performed: Performed) -> None:
    performed.start(raising(ValueError("nul \x00 and half \ud800 a pair")))
    result = performed.result()
    assert result.error == "ValueError: nul \ufffd and half ? a pair"
    assert "\x00" not in (result.traceback or "")


def test_the_end_of_a_long_traceback_is_kept(performed: Performed) -> None:
    performed.start(raising(ValueError("x" * 20_000 + "the end")))
    assert (performed.result().traceback or "").rstrip().endswith("the end")


def test_a_run_tells_its_function_what_it_is(performed: Performed) -> None:
    seen: list[Run] = []
    claim = performed.start(seen.append)
    performed.result()
    run = seen[0]
    assert (run.id, run.token, run.fence) == (claim.id, claim.token, claim.fence)
    assert (run.job, run.attempt, run.due_at, run.worker) == ("tick", 1, claim.due_at, "host:1")


def test_a_tiny_progress_is_one_that_the_database_can_hold() -> None:
    run = Run(a_claim(), no_connection)
    run.progress(1e-60)
    assert run.fraction == 0


class Apart:
    """A runner whose isolated attempts wait until the test lets them come back."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.gate = threading.Event()
        self.runner = Runner(4, no_connection, self.perform, lambda: None)

    def perform(self, attempt: Attempt) -> Result:
        """Note the attempt."""
        self.attempts.append(attempt)
        self.gate.wait(20)
        return Result("completed")

    def start(self, job: Job, claim: Claim, **how: float) -> Attempt:
        """Start a claim; return its attempt once it is performed apart."""
        self.runner.start(claim, job, **how)
        return eventually(lambda: next(a for a in self.attempts if a.claim == claim))


@pytest.fixture
def apart() -> Iterator[Apart]:
    """Yield a runner, and let what it runs come back."""
    running = Apart()
    yield running
    running.gate.set()


ISOLATED = {"isolation": "process"}


def test_what_asks_for_it_and_what_has_killed_two_workers_is_performed_apart(apart: Apart) -> None:
    ours = threading.Event()
    apart.start(a_job(**ISOLATED), a_claim())
    apart.start(a_job(), a_claim(crashes=2))
    apart.runner.start(a_claim(), a_job(function=lambda: ours.set()))  # noqa: PLW0108 - likewise
    assert ours.wait(20)
    assert len(apart.attempts) == 2


def test_a_departure_is_no_reason_to_kill_and_any_other_is(apart: Apart) -> None:
    one, other = (apart.start(a_job(**ISOLATED), a_claim()) for _ in range(2))
    apart.runner.leave()
    assert [(a.run.told, a.at_once) for a in (one, other)] == [("interrupted", False)] * 2
    apart.runner.cancel([one.claim.token])
    assert [a.at_once for a in (one, other)] == [True, False]
    apart.runner.stop("interrupted")
    assert other.at_once


def test_what_is_overdue_has_to_stop_at_once(apart: Apart) -> None:
    attempt = apart.start(a_job(timeout=0.001, **ISOLATED), a_claim())

    def stopped() -> bool:
        apart.runner.stop_overdue()
        return attempt.at_once

    eventually(stopped)
    assert attempt.run.told == "timed_out"


def test_trust_is_for_those_that_run_and_those_to_come_but_for_who_has_to_stop(
    apart: Apart,
) -> None:
    first, told = (apart.start(a_job(**ISOLATED), a_claim()) for _ in range(2))
    told.stop("cancelled")
    apart.runner.trust(5)
    later = apart.start(a_job(**ISOLATED), a_claim())
    lent = apart.start(a_job(**ISOLATED), a_claim(), trusted_until=7)
    found = [attempt.trusted_until for attempt in (first, told, later, lent)]
    assert found == [5, math.inf, 5, 7]
