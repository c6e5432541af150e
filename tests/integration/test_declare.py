"""Declaration: what the code says, what an operator changed, and one planned run for each job."""

from datetime import datetime, timedelta

import pytest

from cluster import schedule
from cluster.database import Pool
from cluster.store import jobs, runs
from tests.integration.builders import (
    NEVER,
    a_job,
    a_worker,
    beside,
    claimed,
    ended,
    execute,
    look,
    query,
    together,
    transaction,
    value,
)


def planned(pool: Pool, job: str = "tick") -> datetime:
    """Return when the waiting run of a job is due."""
    rows = query(pool, "SELECT due_at, not_before FROM run WHERE job = %s AND scheduled", job)
    assert len(rows) == 1
    due, start = rows[0]
    assert due == start
    return datetime.fromisoformat(due.isoformat())


def firing(pool: Pool, text: str, zone: str = "UTC") -> datetime:
    """Return the next firing of a schedule by the database's clock."""
    return schedule.parse(text, zone).after(value(pool, "SELECT now()"))


def test_a_job_that_is_new_is_due_at_once_where_it_says_so(pool: Pool) -> None:
    jobs.declare(pool, [a_job(name="now"), a_job(name="later", at_once=False)])
    assert planned(pool, "now") <= value(pool, "SELECT now()")
    assert planned(pool, "later") == firing(pool, NEVER)


def test_a_second_declaration_changes_nothing(pool: Pool) -> None:
    declared = [a_job(name="now"), a_job(name="later", at_once=False)]
    jobs.declare(pool, declared)
    before = query(pool, "SELECT r.*, j.* FROM run r JOIN job j ON j.name = r.job ORDER BY job")
    jobs.declare(pool, declared)
    after = query(pool, "SELECT r.*, j.* FROM run r JOIN job j ON j.name = r.job ORDER BY job")
    assert after == before


def test_a_job_says_in_its_row_what_the_code_says(pool: Pool) -> None:
    jobs.declare(pool, [a_job(timezone="Europe/Berlin", max_retries=7)])
    row = query(
        pool,
        "SELECT function, description, schedule, timezone, settings->>'max_retries', paused"
        " FROM job",
    )[0]
    assert row == (a_job().path, "Do nothing.", NEVER, "Europe/Berlin", "7", False)


def test_a_setting_that_changed_in_the_code_is_written(pool: Pool) -> None:
    jobs.declare(pool, [a_job()])
    jobs.declare(pool, [a_job(max_retries=9)])
    assert value(pool, "SELECT settings->'max_retries' FROM job") == 9


@pytest.mark.parametrize(
    "change", [{"schedule": "30 2 1 6 *"}, {"timezone": "Australia/Lord_Howe"}]
)
def test_a_changed_schedule_moves_the_waiting_run(pool: Pool, change: dict[str, str]) -> None:
    jobs.declare(pool, [a_job(at_once=False)])
    moved = a_job(at_once=False, **change)
    jobs.declare(pool, [moved])
    assert planned(pool) == firing(pool, moved.schedule or "", moved.timezone)


def test_a_changed_schedule_makes_nothing_due_at_once_that_is_known(pool: Pool) -> None:
    runs.finish(pool, [ended(pool, claimed(pool))])
    jobs.declare(pool, [a_job(schedule="30 2 1 6 *", at_once=True)])
    assert planned(pool) == firing(pool, "30 2 1 6 *")


def test_a_changed_schedule_leaves_the_run_that_is_under_way(pool: Pool) -> None:
    claimed(pool)
    before = query(pool, "SELECT * FROM run")
    jobs.declare(pool, [a_job(schedule="@hourly")])
    assert query(pool, "SELECT * FROM run") == before


def test_a_changed_schedule_leaves_a_retry_where_it_is(pool: Pool) -> None:
    claim = claimed(pool)
    runs.finish(pool, [ended(pool, claim, "failed")])
    before = query(pool, "SELECT * FROM run")
    jobs.declare(pool, [a_job(schedule="@hourly")])
    assert query(pool, "SELECT * FROM run") == before


def test_a_firing_that_passed_while_everybody_was_away_is_kept(pool: Pool) -> None:
    jobs.declare(pool, [a_job(at_once=False)])
    execute(pool, "UPDATE run SET due_at = due_at - interval '2 years', not_before = due_at")
    before = query(pool, "SELECT * FROM run")
    jobs.declare(pool, [a_job(at_once=False)])
    assert query(pool, "SELECT * FROM run") == before


def test_an_operators_schedule_wins_over_the_code(pool: Pool) -> None:
    jobs.declare(pool, [a_job(at_once=False)])
    jobs.change(pool, "tick", {"schedule": "0 0 1 3 *"})
    jobs.declare(pool, [a_job(at_once=False, schedule="0 0 1 6 *")])
    assert planned(pool) == firing(pool, "0 0 1 3 *")


def test_a_reset_goes_back_to_what_the_code_says_by_now(pool: Pool) -> None:
    jobs.declare(pool, [a_job(at_once=False)])
    jobs.change(pool, "tick", {"schedule": "0 0 1 3 *"})
    jobs.declare(pool, [a_job(at_once=False, schedule="0 0 1 6 *")])
    jobs.change(pool, "tick", {"schedule": None})
    assert planned(pool) == firing(pool, "0 0 1 6 *")


def test_a_pause_outlives_a_declaration(pool: Pool) -> None:
    jobs.declare(pool, [a_job()])
    jobs.change(pool, "tick", {"paused": True})
    jobs.declare(pool, [a_job(max_retries=9)])
    assert value(pool, "SELECT paused FROM job")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"paused": True}, (True, NEVER)),
        ({"paused": False}, (False, NEVER)),
        ({"schedule": "@hourly"}, (False, "@hourly")),
        ({"schedule": "@hourly", "paused": True}, (True, "@hourly")),
        ({}, (False, NEVER)),
    ],
)
def test_a_change_is_what_was_asked_for_and_no_more(
    pool: Pool, change: dict[str, object], expected: tuple[bool, str]
) -> None:
    jobs.declare(pool, [a_job()])
    assert jobs.change(pool, "tick", change)
    assert query(pool, "SELECT paused, schedule FROM job") == [expected]


def test_nobody_changes_a_job_that_is_not_there(pool: Pool) -> None:
    assert not jobs.change(pool, "tick", {"paused": True})


def test_workers_that_start_at_once_plan_one_run_a_job(pool: Pool) -> None:
    declared = [a_job(name=f"job-{number}") for number in range(12)]
    together(5, lambda number: jobs.declare(pool, declared[number:] + declared[:number]))
    assert value(pool, "SELECT count(*) FROM job") == 12
    assert query(pool, "SELECT job FROM run GROUP BY job HAVING count(*) <> 1") == []
    assert value(pool, "SELECT count(*) FROM run") == 12


def test_workers_that_declare_while_others_finish_and_change_do_not_deadlock(pool: Pool) -> None:
    declared = [a_job(name=f"job-{number}", schedule="@hourly") for number in range(6)]
    names = [job.name for job in declared]
    jobs.declare(pool, declared)
    worker = a_worker(pool, names=names)

    def act(number: int) -> None:
        for turn in range(15):
            if number == 0:
                claims = look(pool, worker, names=names).claims
                runs.finish(pool, [ended(pool, claim, "interrupted") for claim in claims])
            elif number == 1:
                jobs.change(pool, names[turn % 6], {"schedule": f"{turn} * * * *"})
            else:
                jobs.declare(pool, declared[::-1] if number == 2 else declared)

    together(4, act)
    assert value(pool, "SELECT count(*) FROM run WHERE scheduled") == 6


def test_a_second_declaration_waits_for_the_first_and_plans_nothing(pool: Pool) -> None:
    with transaction(pool) as (lent, _):
        jobs.declare(lent, [a_job()])
        second = beside(pool, lambda: jobs.declare(pool, [a_job()]))
    second()
    assert value(pool, "SELECT count(*) FROM run") == 1


def test_a_job_that_the_code_no_longer_knows_stays(pool: Pool) -> None:
    jobs.declare(pool, [a_job(name="old"), a_job(name="new")])
    jobs.declare(pool, [a_job(name="new")])
    assert query(pool, "SELECT job FROM run ORDER BY job") == [("new",), ("old",)]
    assert value(pool, "SELECT count(*) FROM job") == 2


def test_no_jobs_at_all_can_be_declared(pool: Pool) -> None:
    jobs.declare(pool, [])
    assert query(pool, "SELECT FROM job") == []


def test_run_now_takes_the_place_of_the_next_firing(pool: Pool) -> None:
    jobs.declare(pool, [a_job(at_once=False)])
    run = jobs.run_now(pool, "tick")
    assert query(pool, "SELECT id, due_at <= now(), not_before <= now() FROM run") == [
        (run, True, True)
    ]


def test_run_now_of_a_late_firing_keeps_its_time(pool: Pool) -> None:
    """Else that firing would have no fate: neither run nor missed."""
    jobs.declare(pool, [a_job(at_once=False)])
    execute(pool, "UPDATE run SET due_at = now() - interval '5 min', not_before = due_at")
    before = value(pool, "SELECT due_at FROM run")
    assert jobs.run_now(pool, "tick")
    assert value(pool, "SELECT due_at FROM run") == before


def test_run_now_does_nothing_while_the_job_runs(pool: Pool) -> None:
    claimed(pool)
    assert jobs.run_now(pool, "tick") is None


def test_run_now_brings_a_retry_forward_and_keeps_its_firing(pool: Pool) -> None:
    job = a_job(retry_delay=3600)
    claim = claimed(pool, job)
    runs.finish(pool, [ended(pool, claim, "failed", job=job)])
    assert jobs.run_now(pool, "tick") == claim.id
    rows = query(pool, "SELECT due_at, not_before <= now(), attempt FROM run")
    assert rows == [(claim.due_at, True, 1)]


def test_a_moved_firing_is_not_moved_once_it_runs(pool: Pool) -> None:
    claim = claimed(pool)
    jobs.reschedule(pool, "tick", claim.due_at + timedelta(days=1))
    assert value(pool, "SELECT due_at FROM run") == claim.due_at
