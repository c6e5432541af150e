"""What becomes of each firing: it ran, it was skipped or missed; and what is made up for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cluster.database import Pool
from cluster.ending import Lost, following
from cluster.job import Job, JobError, catalogue
from cluster.run import Claim
from cluster.schedule import newest, parse, passed
from cluster.store import jobs, leases, looks, runs, tasks, views
from tests.integration.builders import (
    HERE,
    Web,
    a_job,
    a_worker,
    ended,
    execute,
    look,
    outcomes,
    query,
    value,
)

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)


def minutes(*numbers: int) -> list[datetime]:
    return [NOON + timedelta(minutes=number) for number in numbers]


@pytest.mark.parametrize("text", ["* * * * *", "@every 60s"])
def test_firings_between_two_moments(text: str) -> None:
    schedule = parse(text)
    assert passed(schedule, NOON, NOON + timedelta(minutes=3), 10) == (minutes(1, 2, 3), None)
    assert passed(schedule, NOON, NOON + timedelta(minutes=3), 2) == (minutes(1, 2), minutes(3)[0])
    assert passed(schedule, NOON, NOON, 10) == ([], None)


@pytest.mark.parametrize(("text", "away"), [("* * * * * *", 14 * 86400), ("@every 1s", 10**7)])
def test_the_newest_firings_are_found_without_asking_for_all(text: str, away: int) -> None:
    schedule = parse(text)
    since = newest(schedule, NOON - timedelta(seconds=away), NOON, 100)
    found, more = passed(schedule, since, NOON, 100)
    assert more is None
    assert 50 <= len(found) <= 100


def test_nothing_is_lost_when_the_run_was_in_time() -> None:
    follows = following(parse("* * * * *"), NOON, NOON + timedelta(seconds=59), "one")
    assert (follows.next_at, follows.lost) == (minutes(1)[0], [])


def test_one_run_stands_for_all_that_passed() -> None:
    follows = following(parse("* * * * *"), NOON, NOON + timedelta(minutes=3), "one")
    assert (follows.next_at, follows.lost) == (minutes(4)[0], [Lost(m) for m in minutes(1, 2, 3)])


def test_all_that_passed_get_a_run_each() -> None:
    follows = following(parse("* * * * *"), NOON, NOON + timedelta(minutes=3), "all")
    assert (follows.next_at, follows.lost) == (minutes(1)[0], [])


def test_after_two_weeks_all_is_bounded_and_every_firing_is_accounted_for() -> None:
    schedule = parse("* * * * *")
    until = NOON + timedelta(days=14)
    follows = following(schedule, NOON, until, "all")
    assert len(passed(schedule, follows.next_at, until, 1000)[0]) < 100
    last = follows.lost[-1]
    assert last.until is not None
    assert schedule.after(last.until) == follows.next_at
    assert len(follows.lost) <= 51
    assert follows.lost[0].at == minutes(1)[0]


def test_a_firing_cancelled_ahead_of_its_time_gives_way_to_the_one_after_it() -> None:
    follows = following(parse("* * * * *"), NOON, NOON - timedelta(seconds=5), "one")
    assert (follows.next_at, follows.lost) == (minutes(1)[0], [])


def test_catch_up_is_a_setting_of_schedules() -> None:
    with pytest.raises(JobError, match="catch_up"):
        catalogue.task(name="nope", catch_up="all")(lambda: None)
    with pytest.raises(JobError, match="catch_up"):
        catalogue.job(name="nope", schedule="@daily", catch_up="some")(lambda: None)


HOURLY = "@every 1h"


def late_run(pool: Pool, job: Job, hours: int) -> Claim:
    """Return the claim of a run whose firing came so many hours before the last full one."""
    jobs.declare(pool, [job])
    execute(
        pool,
        """
        UPDATE run SET due_at = due, not_before = due,
            start_by = NULL
        FROM (SELECT date_trunc('hour', now()) - make_interval(hours => %s) AS due) d
        """,
        hours,
    )
    (claim,) = look(pool, a_worker(pool)).claims
    return claim


def ledger(pool: Pool) -> list[tuple[Any, ...]]:
    return query(
        pool,
        """
        SELECT outcome, count(*)::integer, count(DISTINCT due_at)::integer FROM history
        GROUP BY 1 ORDER BY 1
        """,
    )


def test_firings_of_a_time_in_which_nothing_ran_are_missed(pool: Pool) -> None:
    job = a_job(schedule=HOURLY)
    claim = late_run(pool, job, 3)
    runs.finish(pool, [ended(pool, claim, job=job)])
    assert ledger(pool) == [("completed", 1, 1), ("missed", 3, 3)]
    due = value(pool, "SELECT due_at FROM run")
    assert due > value(pool, "SELECT now()")


def test_firings_while_the_run_before_was_under_way_are_skipped(pool: Pool) -> None:
    job = a_job(schedule=HOURLY)
    claim = late_run(pool, job, 3)
    execute(pool, "UPDATE run SET begun_at = due_at + interval '1 min'")
    runs.finish(pool, [ended(pool, claim, job=job)])
    assert ledger(pool) == [("completed", 1, 1), ("skipped", 3, 3)]


def test_a_retry_is_under_way_since_its_first_attempt(pool: Pool) -> None:
    job = a_job(schedule=HOURLY, retry_delay=0)
    claim = late_run(pool, job, 3)
    execute(pool, "UPDATE run SET begun_at = due_at + interval '90 min'")
    runs.finish(pool, [ended(pool, claim, "failed", job=job)])
    assert ledger(pool) == [("failed", 1, 1)]
    (again,) = look(pool, value(pool, "SELECT id FROM worker")).claims
    runs.finish(pool, [ended(pool, again, job=job)])
    # Ten seconds after the firing nothing had begun yet; after twenty and thirty it had.
    assert ledger(pool) == [
        ("completed", 1, 1),
        ("failed", 1, 1),
        ("missed", 1, 1),
        ("skipped", 2, 2),
    ]


def test_many_lost_firings_share_one_row_after_the_first(pool: Pool) -> None:
    job = a_job(schedule="@every 1s")
    claim = late_run(pool, job, 14 * 24)
    runs.finish(pool, [ended(pool, claim, job=job)])
    assert value(pool, "SELECT count(*) FROM history") == 52
    ((since, until, before),) = query(
        pool,
        """
        SELECT due_at, due_until, (SELECT max(due_at) FROM history
            WHERE due_until IS NULL AND outcome = 'missed')
        FROM history WHERE due_until IS NOT NULL
        """,
    )
    assert since - before == timedelta(seconds=1)
    assert timedelta(0) < value(pool, "SELECT due_at FROM run") - until <= timedelta(seconds=1)


def test_a_page_of_the_history_loses_no_row_of_one_moment(pool: Pool) -> None:
    job = a_job(schedule=HOURLY)
    runs.finish(pool, [ended(pool, late_run(pool, job, 9), job=job)])
    whole = [row["run_id"] for row in views.history(pool, "tick", 100, None)]
    paged: list[Any] = []
    cursor = None
    while rows := views.history(pool, "tick", 2, cursor):
        paged += [row["run_id"] for row in rows]
        cursor = (rows[-1]["finished_at"], rows[-1]["run_id"])
    assert len(whole) == 10
    assert paged == whole


def test_the_last_run_is_an_attempt_and_no_lost_firing(pool: Pool) -> None:
    job = a_job(schedule=HOURLY)
    runs.finish(pool, [ended(pool, late_run(pool, job, 3), job=job)])
    last = Web(pool).get("/jobs/tick").body["last_run"]
    assert (last["outcome"], last["worker"]) == ("completed", "host:1")
    assert last["duration_seconds"] is not None


def test_with_all_the_next_run_is_the_next_firing_that_passed(pool: Pool) -> None:
    job = a_job(schedule=HOURLY, catch_up="all")
    worker_and_claim = late_run(pool, job, 3)
    runs.finish(pool, [ended(pool, worker_and_claim, job=job)])
    assert value(pool, "SELECT due_at - date_trunc('hour', now()) FROM run") == timedelta(hours=-2)
    assert outcomes(pool) == ["completed"]
    assert look(pool, value(pool, "SELECT id FROM worker")).claims


def test_with_none_a_firing_that_is_late_is_missed_and_the_next_one_planned(pool: Pool) -> None:
    job = a_job(schedule=HOURLY, catch_up="none")
    jobs.declare(pool, [job])
    execute(
        pool,
        "UPDATE run SET due_at = date_trunc('hour', now()) - interval '3 h', not_before = now(),"
        " start_by = now() - interval '1 s'",
    )
    worker = a_worker(pool)
    found = look(pool, worker)
    assert (found.claims, found.unwanted) == ([], True)
    assert runs.drop(pool) == 1
    assert runs.drop(pool) == 0
    assert ledger(pool) == [("missed", 4, 4)]
    ((ahead, within),) = query(
        pool, "SELECT due_at > now(), extract(epoch FROM start_by - due_at)::float8 FROM run"
    )
    assert (ahead, within) == (True, 60)


def test_a_late_firing_that_can_wait_is_never_dropped(pool: Pool) -> None:
    jobs.declare(pool, [a_job()])
    execute(pool, "UPDATE run SET not_before = now() - interval '1 day'")
    assert not look(pool, a_worker(pool), free=0).unwanted
    assert runs.drop(pool) == 0


def test_a_claim_is_first_or_the_drop(pool: Pool) -> None:
    job = a_job(schedule=HOURLY, catch_up="none")
    jobs.declare(pool, [job])
    (claim,) = look(pool, a_worker(pool)).claims
    execute(pool, "UPDATE run SET start_by = now() - interval '1 s'")
    assert runs.drop(pool) == 0
    assert value(pool, "SELECT token FROM run") == claim.token


def test_run_now_is_not_missed(pool: Pool) -> None:
    jobs.declare(pool, [a_job(catch_up="none", at_once=False)])
    jobs.run_now(pool, "tick")
    assert value(pool, "SELECT start_by FROM run") is None


def test_a_changed_schedule_keeps_the_time_to_start_within(pool: Pool) -> None:
    jobs.declare(pool, [a_job(catch_up="none", at_once=False)])
    jobs.change(pool, "tick", {"schedule": "0 4 * * *"})
    assert value(pool, "SELECT start_by - due_at FROM run") == timedelta(seconds=60)


def test_a_cancelled_run_is_told_and_gives_way_to_the_next(pool: Pool) -> None:
    job = a_job(schedule=HOURLY, catch_up="none")
    claim = late_run(pool, job, 2)
    answer = Web(pool).ask("POST", f"/runs/{claim.id}/cancel")
    assert (answer.status, answer.body["state"]) == (202, "running")
    worker = value(pool, "SELECT id FROM worker")
    assert look(pool, worker).cancelled == [claim.token]
    runs.finish(pool, [ended(pool, claim, "cancelled", job=job)])
    assert set(outcomes(pool)) == {"cancelled", "missed"}
    ((token, ahead, wanted),) = query(
        pool, "SELECT token, due_at > now(), start_by > due_at FROM run"
    )
    assert (token, ahead, wanted) == (None, True, True)


@pytest.mark.parametrize("outcome", ["failed", "interrupted"])
def test_a_cancelled_run_that_comes_back_otherwise_is_not_tried_again(
    pool: Pool, outcome: str
) -> None:
    job = a_job(schedule=HOURLY, retry_delay=0)
    claim = late_run(pool, job, 2)
    tasks.cancel(pool, claim.id, firings=True)
    runs.finish(pool, [ended(pool, claim, outcome, job=job)])
    found = look(pool, value(pool, "SELECT id FROM worker"))
    assert (found.claims, found.unwanted) == ([], True)
    assert runs.drop(pool) == 1
    assert set(outcomes(pool)) - {"missed", "skipped"} == {outcome, "cancelled"}
    assert query(pool, "SELECT id <> %s, start_by FROM run", claim.id) == [(True, None)]


def test_a_cancelled_run_whose_worker_dies_is_not_tried_again(pool: Pool) -> None:
    claim = late_run(pool, a_job(schedule=HOURLY), 1)
    tasks.cancel(pool, claim.id, firings=True)
    leases.take_over(pool, [value(pool, "SELECT id FROM worker")])
    assert look(pool, a_worker(pool)).claims == []
    assert runs.drop(pool) == 1
    assert set(outcomes(pool)) - {"missed", "skipped"} == {"crashed", "cancelled"}


def test_a_cancelled_run_that_waits_gives_way_to_the_one_after_it(pool: Pool) -> None:
    jobs.declare(pool, [a_job(schedule="0 * * * *", at_once=False)])
    ((run, due),) = query(pool, "SELECT id, due_at FROM run")
    answer = Web(pool).ask("POST", f"/runs/{run}/cancel")
    assert (answer.status, answer.body["state"], answer.body["cancelled"]) == (
        200,
        "waiting",
        True,
    )
    assert runs.drop(pool) == 1
    assert value(pool, "SELECT due_at FROM run") == due + timedelta(hours=1)
    assert outcomes(pool) == ["cancelled"]


def test_nothing_to_cancel_is_said(pool: Pool) -> None:
    job = a_job()
    claim = late_run(pool, job, 1)
    runs.finish(pool, [ended(pool, claim, job=job)])
    web = Web(pool)
    assert web.ask("POST", f"/runs/{claim.id}/cancel").problem == "run-over"
    assert web.get(f"/runs/{claim.id}").body["outcome"] == "completed"
    unknown = "01a1fdf0-958f-7f64-b4bf-abe6bec36222"
    assert web.ask("POST", f"/runs/{unknown}/cancel").problem == "unknown-run"
    assert web.get("/runs/xyz").status == 404


def test_cancelled_twice_is_once(pool: Pool) -> None:
    claim = late_run(pool, a_job(), 1)
    web = Web(pool)
    assert [web.ask("POST", f"/runs/{claim.id}/cancel").status for _ in range(2)] == [202, 202]


def test_the_route_of_tasks_knows_no_firings(pool: Pool) -> None:
    claim = late_run(pool, a_job(), 1)
    assert Web(pool).ask("DELETE", f"/tasks/{claim.id}").status == 404
    assert value(pool, "SELECT start_by FROM run") is None


def test_a_look_of_nobody_asks_for_no_drop_when_nothing_is_unwanted(pool: Pool) -> None:
    jobs.declare(pool, [a_job()])
    nobody = looks.Ask(a_worker(pool), HERE.host, [], 0, 0, 0.0)
    assert not looks.claim(pool, nobody).unwanted
