"""Declarations: what a job may be, and what a wrong one is told."""

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster import Run, schedule
from cluster.job import Catalogue, Job, JobError
from tests.unit.builders import NOW, a_job, nothing


def declare(function: Callable[..., object] = nothing, **settings: Any) -> Job:
    """Declare a job in a catalogue of its own and return it."""
    catalogue = Catalogue()
    catalogue.job(**{"name": "tick", **settings})(function)
    return next(iter(catalogue))


def nothing_more() -> None:
    """Do nothing either."""


async def coroutine() -> None:
    """Be no plain function."""


def two_arguments(_run: Run, _other: object) -> None:
    """Want more than a run."""


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"schedule": "@daily", "retries": 3}, "retries"),
        ({}, "schedule"),
        ({"schedule": "61 * * * *"}, "61 * * * *"),
        ({"schedule": "@daily", "timezone": "Mars/X"}, "Mars/X"),
        ({"every": "soon"}, "soon"),
        ({"schedule": "@daily", "every": "1m"}, "every"),
        ({"schedule": "@daily", "timeout": "10x"}, "timeout"),
        ({"schedule": "@daily", "timeout": 0}, "timeout"),
        ({"schedule": "@daily", "retry_delay": -1}, "retry_delay"),
        ({"schedule": "@daily", "retry_delay": 1e300}, "retry_delay"),
        ({"schedule": "@daily", "retry_longest": "5000d"}, "retry_longest"),
        ({"schedule": "@daily", "max_retries": -1}, "max_retries"),
        ({"schedule": "@daily", "max_retries": "many"}, "max_retries"),
        ({"schedule": "@daily", "spread": "2m"}, "spread"),
        ({"schedule": "@daily", "priority": 101}, "priority"),
        ({"schedule": "@daily", "at_once": "perhaps"}, "at_once"),
        ({"schedule": "@daily", "isolation": "fibre"}, "isolation"),
        ({"schedule": "@daily", "isolation": "process", "memory_mib": 63}, "memory_mib"),
        ({"schedule": "@daily", "memory_mib": 64}, 'memory_mib: only with isolation="process"'),
    ],
)
def test_a_wrong_setting_is_named_with_its_job(settings: dict[str, Any], setting: str) -> None:
    with pytest.raises(JobError, match="'tick'") as refused:
        declare(**settings)
    assert setting in str(refused.value)


@pytest.mark.parametrize("function", [coroutine, two_arguments])
def test_a_function_that_we_cannot_call_is_refused(function: Callable[..., object]) -> None:
    with pytest.raises(JobError, match="'tick': function"):
        declare(function, schedule="@daily")


@pytest.mark.parametrize("name", ["", "Tick", "1tick", "a b", "a/b", "a" * 101, "tück", "tick\n"])
def test_a_name_that_no_path_could_carry_is_refused(name: str) -> None:
    with pytest.raises(JobError, match="name"):
        declare(name=name, schedule="@daily")


def test_a_refusal_names_the_settings_there_are() -> None:
    with pytest.raises(
        JobError, match="every, isolation, max_retries, max_running, memory_mib"
    ) as refused:
        declare(schedule="@daily", retries=3)
    assert "schedule" in str(refused.value)


def test_a_taken_name_names_who_has_it() -> None:
    catalogue = Catalogue()
    catalogue.job(name="tick", schedule="@daily")(nothing)
    with pytest.raises(JobError, match=r"'tick'.*builders\.nothing"):
        catalogue.job(name="tick", schedule="@daily")(nothing_more)


def test_a_job_has_modest_defaults() -> None:
    job = a_job()
    assert (job.timezone, job.timeout, job.max_retries, job.retry_delay) == ("UTC", 3600, 3, 1)
    assert (job.priority, job.spread, job.at_once) == (0, 0.1, False)


def test_a_job_is_named_after_its_function() -> None:
    catalogue = Catalogue()
    catalogue.job(schedule="@daily")(nothing)
    assert catalogue.get("nothing") is not None


@pytest.mark.parametrize("every", ["90s", 90, 90.0])
def test_an_interval_may_stand_in_place_of_a_schedule(every: str | float) -> None:
    job = declare(every=every)
    assert schedule.parse(job.schedule).after(NOW) == NOW + timedelta(seconds=90)


def test_durations_are_read_as_people_write_them() -> None:
    job = declare(schedule="@daily", timeout="1h30m", retry_delay="10s", spread=0)
    assert (job.timeout, job.retry_delay, job.spread) == (5400, 10, 0)


def test_a_decorated_function_stays_as_it_is() -> None:
    assert Catalogue().job(schedule="@daily")(nothing) is nothing


def test_a_catalogue_keeps_the_order_of_declaration() -> None:
    catalogue = Catalogue()
    for name in ("c", "a", "b"):
        catalogue.job(name=name, schedule="@daily")(nothing)
    assert [job.name for job in catalogue] == ["c", "a", "b"]


def test_the_wait_after_a_failure_doubles() -> None:
    job = a_job(retry_delay=3, retry_jitter=0)
    assert [job.retry_after(failures) for failures in (1, 2, 3, 4)] == [3, 6, 12, 24]


def test_the_wait_after_a_failure_is_an_hour_at_most() -> None:
    job = a_job(retry_delay=3, max_retries=100, retry_jitter=0)
    assert job.retry_after(99) == 3600


def test_only_a_function_that_wants_the_run_gets_it() -> None:
    assert a_job(function=lambda: "nothing").call("the run", None) == "nothing"
    assert a_job(function=lambda run: run).call("the run", None) == "the run"


def test_the_description_is_the_first_line_of_the_docstring() -> None:
    assert a_job(function=declare).description == (
        "Declare a job in a catalogue of its own and return it."
    )


def test_a_function_without_docstring_has_an_empty_description() -> None:
    assert a_job(function=lambda: None).description == ""


def test_an_absent_module_is_named() -> None:
    with pytest.raises(JobError, match="RONIN_JOBS names 'jobs_of_nobody'"):
        Catalogue().load(("jobs_of_nobody",))


def test_an_absent_module_of_a_package_is_named() -> None:
    with pytest.raises(JobError, match=r"'email\.nowhere'"):
        Catalogue().load(("email.nowhere",))


def test_a_broken_import_inside_a_module_keeps_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs_with_a_hole.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        Catalogue().load(("jobs_with_a_hole",))
    assert "jobs_with_a_hole" not in sys.modules
