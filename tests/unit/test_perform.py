"""Perform: whatever comes of a function becomes a result that can be stored."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import Discard, RetryIn, Run
from cluster.job import Job
from cluster.perform import Result, perform, storable
from cluster.values import MOST_BYTES
from tests.unit.builders import a_claim, a_job, no_connection


def a_run() -> Run:
    """Return a run of `work`."""
    return Run(a_claim(job="work", schedule=None), no_connection)


def performed(
    function: Callable[..., object], args: dict[str, Any] | None = None, run: Run | None = None
) -> Result:
    """Perform a function as a task's."""
    job = Job(name="work", function=function, spread=0)
    return perform(job, run or a_run(), json.dumps(args or {}))


def returning(value: object) -> Result:
    """Perform a function that returns a value."""
    return performed(lambda: value)


def raising(error: BaseException) -> Result:
    """Perform a function that raises an error."""

    def act() -> None:
        raise error

    return performed(act)


def test_a_function_that_returns_nothing_is_completed_without_a_value() -> None:
    assert returning(None) == Result("completed")


@pytest.mark.parametrize(
    "value", [0, False, "", [], {}, 1.5, "☃", {"a": [1, None, {"b": True}]}, 2**63 - 1, -(2**63)]
)
def test_what_a_function_returns_becomes_json(value: object) -> None:
    result = returning(value)
    assert result.outcome == "completed"
    assert json.loads(result.value or "") == value


@pytest.mark.parametrize(
    "value",
    [{1, 2}, b"x", 2**64, {"a": -(2**63) - 1}, "\ud800", {"\udfff": 1}, {1: 2}, 1j, object],
    ids=ascii,
)
def test_what_does_not_fit_json_fails_for_good(value: object) -> None:
    result = returning(value)
    assert (result.outcome, result.final, result.value) == ("failed", True, None)
    assert "does not fit JSON" in (result.error or "")


@pytest.mark.parametrize("value", ["a\x00b", {"a\x00": 1}, [["\x00"]]], ids=ascii)
def test_what_postgresql_cannot_keep_fails_for_good(value: object) -> None:
    result = returning(value)
    assert (result.outcome, result.final) == ("failed", True)
    assert "NUL" in (result.error or "")


@pytest.mark.parametrize(("length", "outcome"), [(MOST_BYTES, "completed"), (0, "failed")])
def test_a_result_has_a_largest_size(length: int, outcome: str) -> None:
    result = returning("x" * ((length or MOST_BYTES + 1) - 2))
    assert (result.outcome, result.final) == (outcome, outcome == "failed")
    assert outcome == "completed" or str(MOST_BYTES) in (result.error or "")


def test_a_result_that_contains_itself_fails_for_good() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert (returning(endless).outcome, returning(endless).final) == ("failed", True)


def test_an_error_is_told_in_a_line_with_its_traceback() -> None:
    result = raising(ValueError("no such file"))
    assert (result.outcome, result.error) == ("failed", "ValueError: no such file")
    assert (result.final, result.retry_in) == (False, None)
    assert "raise error" in (result.traceback or "")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_not_even_an_exit_gets_through(error: BaseException) -> None:
    result = raising(error)
    assert (result.outcome, result.final) == ("failed", False)
    assert type(error).__name__ in (result.error or "")


def test_a_discarded_run_fails_for_good() -> None:
    result = raising(Discard("no such customer"))
    assert (result.outcome, result.error, result.final) == ("failed", "no such customer", True)


def test_a_discard_without_a_word_still_says_something() -> None:
    assert "Discard" in (raising(Discard()).error or "")


def test_a_run_may_ask_when_to_be_tried_again() -> None:
    result = raising(RetryIn(90, "the bank is closed"))
    assert (result.outcome, result.error) == ("failed", "the bank is closed")
    assert (result.retry_in, result.final) == (90, False)
    assert "1.5 s" in (raising(RetryIn(1.5)).error or "")


@pytest.mark.parametrize(
    ("asked", "given_back"), [(-5, 0), (0, 0), (10**12, 366 * 86400), (float("inf"), 366 * 86400)]
)
def test_a_wish_for_another_time_is_kept_within_a_year(asked: float, given_back: float) -> None:
    assert raising(RetryIn(asked)).retry_in == given_back


def test_wrong_arguments_fail_for_good_and_are_named() -> None:
    def act(count: int) -> None:
        raise AssertionError(count)

    result = performed(act, {"count": "3", "other": 1})
    assert (result.outcome, result.final, result.traceback) == ("failed", True, None)
    assert (result.error or "").startswith("args: count: ")
    assert "other" in (result.error or "")


def test_arguments_and_run_arrive() -> None:
    def act(run: Run, count: int, word: str = "x") -> list[object]:
        return [run.job, run.attempt, count, word]

    assert json.loads(performed(act, {"count": 3}).value or "") == ["work", 1, 3, "x"]


def test_a_job_with_a_schedule_gets_no_arguments() -> None:
    seen: list[object] = []
    run = a_run()
    assert perform(a_job(function=seen.append), run, None) == Result("completed")
    assert seen == [run]


@pytest.mark.parametrize("reason", ["cancelled", "timed_out", "interrupted"])
def test_a_function_that_sees_that_it_shall_stop_ends_so(reason: str) -> None:
    def checks(run: Run) -> None:
        run.check()

    def looks(run: Run) -> str:
        return "half" if run.cancelled else "whole"

    for function in (checks, looks):
        run = a_run()
        run.stop(reason)
        result = performed(function, run=run)
        assert (result.outcome, result.value) == (reason, None)


def test_a_function_that_never_looks_has_done_its_work() -> None:
    run = a_run()
    run.stop("cancelled")
    assert performed(lambda: 5, run=run) == Result("completed", value="5")


def test_an_error_of_a_run_that_shall_stop_is_an_error() -> None:
    def act(run: Run) -> None:
        assert run.cancelled
        raise ValueError("broken")

    run = a_run()
    run.stop("cancelled")
    assert performed(act, run=run).outcome == "failed"


@given(text=st.text(st.characters(), max_size=50) | st.just("\ud800\x00x"))
def test_any_text_becomes_storable(text: str) -> None:
    found = storable(text)
    assert "\x00" not in found
    assert found.encode().decode() == found
    assert len(found) == len(text)


def test_a_long_error_is_cut_and_its_traceback_keeps_the_end() -> None:
    result = raising(ValueError("x" * 100_000 + "the end"))
    assert len(result.error or "") == len(result.traceback or "") == 8192
    assert (result.traceback or "").endswith("the end\n")


def test_an_error_that_cannot_be_told_is_still_a_result() -> None:
    class Silent(Exception):  # noqa: N818 - it is no usual one
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert raising(Silent()).outcome == "failed"


@pytest.mark.parametrize("jitter", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("failures", "delay"), [(1, 3), (2, 6), (3, 12), (8, 100), (100, 100)])
def test_the_wait_after_a_failure_stays_within_its_jitter(
    jitter: float, failures: int, delay: float
) -> None:
    job = a_job(retry_delay=3, retry_longest=100, retry_jitter=jitter)
    waits = {job.retry_after(failures) for _ in range(200)}
    assert delay * (1 - jitter) <= min(waits) <= max(waits) <= delay * (1 + jitter)
    assert (len(waits) > 1) == (jitter > 0)
