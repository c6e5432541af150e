"""Endings: what becomes of a run, for each way in which its attempt came back."""

from datetime import timedelta

import pytest

from cluster.ending import ending_of
from tests.unit.builders import NOW, a_claim, a_job, a_result

JOB = a_job(max_retries=3, retry_delay=2)


def test_an_interruption_costs_nothing_and_is_due_again_at_once() -> None:
    ending = ending_of(a_result("interrupted", a_claim(failures=2), JOB), NOW)
    assert (ending.retry_in, ending.failures) == (0, 2)


@pytest.mark.parametrize("outcome", ["failed", "timed_out"])
@pytest.mark.parametrize(("before", "wait"), [(0, 2), (1, 4), (2, None)])
def test_a_failure_is_retried_until_there_are_three(
    outcome: str, before: int, wait: float | None
) -> None:
    ending = ending_of(a_result(outcome, a_claim(failures=before), JOB), NOW)
    assert (ending.retry_in, ending.failures) == (wait, before + 1)


@pytest.mark.parametrize("outcome", ["completed", "cancelled"])
def test_what_is_over_is_not_tried_again(outcome: str) -> None:
    ending = ending_of(a_result(outcome, a_claim(failures=1), JOB), NOW)
    assert (ending.retry_in, ending.failures) == (None, 1)


@pytest.mark.parametrize("outcome", ["failed", "timed_out"])
def test_a_final_failure_is_not_tried_again(outcome: str) -> None:
    assert ending_of(a_result(outcome, a_claim(), JOB, final=True), NOW).retry_in is None


def test_a_single_try_is_over_after_one_failure() -> None:
    result = a_result("failed", a_claim(), a_job(max_retries=1))
    assert ending_of(result, NOW).retry_in is None


def test_crashes_do_not_count_as_failures() -> None:
    assert ending_of(a_result("failed", a_claim(crashes=2), JOB), NOW).retry_in == 2


def test_the_next_firing_is_the_first_after_now() -> None:
    late = NOW + timedelta(hours=5, minutes=1)
    ending = ending_of(a_result("completed", a_claim(), JOB), late)
    assert ending.next_at == NOW + timedelta(hours=6)


def test_the_next_firing_is_of_the_schedule_that_was_claimed() -> None:
    claim = a_claim(schedule="30 2 * * *", timezone="Europe/Berlin")
    ending = ending_of(a_result("completed", claim, JOB), NOW)
    assert ending.next_at == NOW.replace(day=2, hour=0, minute=30)


def test_an_ending_carries_what_guards_it_and_what_it_says() -> None:
    claim = a_claim(attempt=2, fence=7)
    ending = ending_of(a_result("failed", claim, JOB, error="no", traceback="at"), NOW)
    assert (ending.run_id, ending.token, ending.fence) == (claim.id, claim.token, 7)
    assert (ending.outcome, ending.attempt, ending.error, ending.traceback) == (
        "failed",
        2,
        "no",
        "at",
    )


def test_the_next_run_has_the_settings_of_the_code() -> None:
    ending = ending_of(a_result("completed", a_claim(), a_job(priority=5, spread=2)), NOW)
    assert (ending.priority, ending.spread) == (5, 2)
