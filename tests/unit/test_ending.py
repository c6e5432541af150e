"""Endings: what becomes of a run, for each way in which its attempt came back."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from cluster.ending import Ending, ending_of
from cluster.job import Job
from cluster.perform import Result
from cluster.run import Claim
from tests.unit.builders import NOW, a_claim, a_job

JOB = a_job(max_retries=3, retry_delay=2, retry_jitter=0)


def ending(outcome: str, claim: Claim, job: Job = JOB, now: datetime = NOW, **said: Any) -> Ending:
    """Return what becomes of an attempt that came back so."""
    return ending_of(claim, job, Result(outcome, **said), now)


def test_an_interruption_costs_nothing_and_is_due_again_at_once() -> None:
    end = ending("interrupted", a_claim(failures=2))
    assert (end.retry_in, end.failures) == (0, 2)


@pytest.mark.parametrize("outcome", ["failed", "timed_out"])
@pytest.mark.parametrize(("before", "wait"), [(0, 2), (1, 4), (2, None)])
def test_a_failure_is_retried_until_there_are_three(
    outcome: str, before: int, wait: float | None
) -> None:
    end = ending(outcome, a_claim(failures=before))
    assert (end.retry_in, end.failures) == (wait, before + 1)


@pytest.mark.parametrize("outcome", ["completed", "cancelled"])
def test_what_is_over_is_not_tried_again(outcome: str) -> None:
    end = ending(outcome, a_claim(failures=1))
    assert (end.retry_in, end.failures) == (None, 1)


@pytest.mark.parametrize("outcome", ["failed", "timed_out"])
def test_a_final_failure_is_not_tried_again(outcome: str) -> None:
    assert ending(outcome, a_claim(), final=True).retry_in is None


def test_a_single_try_is_over_after_one_failure() -> None:
    assert ending("failed", a_claim(), a_job(max_retries=1)).retry_in is None


def test_crashes_do_not_count_as_failures() -> None:
    assert ending("failed", a_claim(crashes=2)).retry_in == 2


def test_the_next_firing_is_the_first_after_now() -> None:
    late = NOW + timedelta(hours=5, minutes=1)
    end = ending("completed", a_claim(), now=late)
    assert end.next_at == NOW + timedelta(hours=6)


def test_the_next_firing_is_of_the_schedule_that_was_claimed() -> None:
    claim = a_claim(schedule="30 2 * * *", timezone="Europe/Berlin")
    end = ending("completed", claim)
    assert end.next_at == NOW.replace(day=2, hour=0, minute=30)


def test_an_ending_carries_what_guards_it_and_what_it_says() -> None:
    claim = a_claim(attempt=2, fence=7)
    end = ending("failed", claim, error="no", traceback="at")
    assert (end.run_id, end.token, end.fence) == (claim.id, claim.token, 7)
    assert (end.outcome, end.attempt, end.error, end.traceback) == (
        "failed",
        2,
        "no",
        "at",
    )


def test_the_next_run_has_the_settings_of_the_code() -> None:
    end = ending("completed", a_claim(), a_job(priority=5, spread=2))
    assert (end.priority, end.spread) == (5, 2)
