"""The shipped catalogue: what a fresh start has to share out."""

import pytest

import jobs
from cluster import schedule, settings
from cluster.job import Job, catalogue

SHIPPED = [job for job in catalogue if job.function.__module__.split(".")[0] == jobs.__name__]
RECURRING = [job for job in SHIPPED if job.schedule]
each = pytest.mark.parametrize("job", SHIPPED, ids=lambda job: job.name)
each_recurring = pytest.mark.parametrize("job", RECURRING, ids=lambda job: job.name)


def test_there_are_at_least_ten_recurring_jobs() -> None:
    assert len(RECURRING) >= 10


def test_there_are_at_least_four_kinds_of_tasks() -> None:
    assert len(SHIPPED) - len(RECURRING) >= 4


def test_names_and_functions_are_different_ones() -> None:
    assert len({job.name for job in SHIPPED}) == len({job.path for job in SHIPPED}) == len(SHIPPED)


@each
def test_a_job_says_what_it_does(job: Job) -> None:
    assert job.description.endswith(".")


@each_recurring
def test_a_job_has_a_schedule_that_fires(job: Job) -> None:
    assert schedule.parse(job.schedule or "", job.timezone)


@each_recurring
def test_a_job_is_due_at_once(job: Job) -> None:
    assert job.at_once


@each_recurring
def test_a_job_may_take_longer_than_the_longest_setting(job: Job) -> None:
    longest = settings.Settings.model_fields["sample_seconds"].metadata
    assert job.timeout > max(rule.le for rule in longest if hasattr(rule, "le"))
