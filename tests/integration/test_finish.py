"""The finish: one history row for each attempt, the next firing in the same statement."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from cluster.database import Pool
from cluster.ending import Ending
from cluster.run import Claim
from cluster.store import jobs, leases, runs
from tests.integration.builders import (
    KIND,
    a_job,
    a_kind,
    a_worker,
    asked,
    beside,
    claimed,
    ended,
    execute,
    look,
    outcomes,
    query,
    taken,
    tasks,
    together,
    transaction,
    value,
)


def again(pool: Pool) -> Claim:
    """Make what waits due and claim it under the worker that is there."""
    execute(pool, "UPDATE run SET not_before = now() - interval '1 ms' WHERE token IS NULL")
    worker = value(pool, "SELECT id FROM worker")
    return look(pool, worker).claims[0]


def test_a_completed_run_gives_way_to_the_next_firing_in_its_row(pool: Pool) -> None:
    claim = claimed(pool)
    ending = ended(pool, claim)
    assert runs.finish(pool, [ending]) == [runs.Ended(fenced=False, schedule=claim.schedule)]
    rows = query(pool, "SELECT due_at, not_before, attempt, failures, crashes, token FROM run")
    assert rows == [(ending.next_at, ending.next_at, 0, 0, 0, None)]
    assert value(pool, "SELECT id FROM run") != claim.id


def test_a_completed_run_is_in_the_history(pool: Pool) -> None:
    claim = claimed(pool)
    runs.finish(pool, [ended(pool, claim)])
    rows = query(
        pool,
        "SELECT run_id, job, attempt, token, fence, worker, due_at, started_at, outcome, error"
        " FROM history",
    )
    assert rows == [
        (
            *(claim.id, "tick", 1, claim.token, claim.fence, "host:1"),
            *(claim.due_at, claim.started_at, "completed", None),
        )
    ]


def test_a_firing_that_has_passed_is_due_at_once(pool: Pool) -> None:
    passed = value(pool, "SELECT now()")
    runs.finish(pool, [ended(pool, claimed(pool))._replace(next_at=passed)])
    rows = query(pool, "SELECT r.due_at, r.not_before = h.finished_at FROM run r, history h")
    assert rows == [(passed, True)]


def test_a_failed_run_is_due_again_after_its_delay(pool: Pool) -> None:
    job = a_job(retry_delay=60, retry_jitter=0)
    claim = claimed(pool, job)
    runs.finish(pool, [ended(pool, claim, "failed", job=job, error="no", traceback="at")])
    rows = query(
        pool,
        "SELECT r.id, r.attempt, r.failures, r.crashes, r.token, r.not_before - h.finished_at,"
        " r.due_at FROM run r, history h",
    )
    assert rows == [(claim.id, 1, 1, 0, None, timedelta(seconds=60), claim.due_at)]
    assert query(pool, "SELECT outcome, error, traceback FROM history") == [("failed", "no", "at")]


def test_a_run_is_over_after_three_failures(pool: Pool) -> None:
    job = a_job(max_retries=3, retry_delay=60)
    first = claim = claimed(pool, job)
    for _ in range(2):
        runs.finish(pool, [ended(pool, claim, "failed", job=job)])
        claim = again(pool)
        assert claim.id == first.id
    ending = ended(pool, claim, "failed", job=job)
    runs.finish(pool, [ending])
    assert query(pool, "SELECT due_at, attempt, failures FROM run") == [(ending.next_at, 0, 0)]
    assert query(pool, "SELECT attempt, outcome FROM history ORDER BY attempt") == [
        (1, "failed"),
        (2, "failed"),
        (3, "failed"),
    ]


def test_an_interrupted_run_is_due_again_at_once_and_costs_nothing(pool: Pool) -> None:
    claim = claimed(pool)
    runs.finish(pool, [ended(pool, claim, "interrupted")])
    rows = query(pool, "SELECT id, failures, crashes, not_before <= now() FROM run")
    assert rows == [(claim.id, 0, 0, True)]


def test_a_run_without_a_next_firing_is_gone(pool: Pool) -> None:
    tasks(pool, 1)
    claim = look(pool, a_worker(pool)).claims[0]
    over = ended(pool, claim)._replace(next_at=None)
    assert not runs.finish(pool, [over])[0].fenced
    assert query(pool, "SELECT FROM run") == []
    assert outcomes(pool) == ["completed"]


def test_a_late_result_changes_nothing_and_is_recorded_as_fenced(pool: Pool) -> None:
    claim = claimed(pool)
    execute(pool, "UPDATE run SET token = gen_random_uuid(), fence = nextval('fence')")
    before = query(pool, "SELECT * FROM run")
    assert runs.finish(pool, [ended(pool, claim)]) == [runs.Ended(fenced=True, schedule=None)]
    assert query(pool, "SELECT * FROM run") == before
    assert outcomes(pool) == ["fenced"]
    assert "completed" in value(pool, "SELECT error FROM history")


def test_a_late_result_of_a_run_that_is_no_more_is_fenced(pool: Pool) -> None:
    claim = claimed(pool)
    execute(pool, "DELETE FROM run")
    assert runs.finish(pool, [ended(pool, claim)])[0].fenced
    assert query(pool, "SELECT FROM run") == []


@pytest.mark.parametrize("outcome", ["completed", "failed", "interrupted"])
def test_a_finish_that_comes_twice_is_one(pool: Pool, outcome: str) -> None:
    ending = ended(pool, claimed(pool), outcome)
    runs.finish(pool, [ending])
    before = query(pool, "SELECT * FROM run")
    runs.finish(pool, [ending])
    assert query(pool, "SELECT * FROM run") == before
    assert outcomes(pool) == [outcome]


def test_a_fenced_finish_that_comes_twice_is_one(pool: Pool) -> None:
    claim = claimed(pool)
    execute(pool, "UPDATE run SET token = gen_random_uuid()")
    ending = ended(pool, claim)
    for _ in range(3):
        assert runs.finish(pool, [ending])[0].fenced
    assert outcomes(pool) == ["fenced"]


def test_a_finish_that_comes_again_beside_the_first_is_one(pool: Pool) -> None:
    # The connection broke while the first was under way in the server.
    ending = ended(pool, claimed(pool))
    with transaction(pool) as (lent, _):
        runs.finish(lent, [ending])
        second = beside(pool, lambda: runs.finish(pool, [ending]))
    second()
    assert outcomes(pool) == ["completed"]


def test_a_batch_is_answered_in_its_order(pool: Pool) -> None:
    tasks(pool, 4)
    claims = look(pool, a_worker(pool)).claims
    execute(pool, "UPDATE run SET token = gen_random_uuid() WHERE id = %s", claims[2].id)
    said = ("completed", "failed", "completed", "interrupted")
    endings = [ended(pool, c, outcome) for c, outcome in zip(claims, said, strict=True)]
    assert [e.fenced for e in runs.finish(pool, endings)] == [False, False, True, False]
    assert sorted(outcomes(pool)) == ["completed", "failed", "fenced", "interrupted"]


def test_a_batch_has_one_time(pool: Pool) -> None:
    tasks(pool, 5)
    claims = look(pool, a_worker(pool)).claims
    runs.finish(pool, [ended(pool, claim) for claim in claims])
    assert value(pool, "SELECT count(DISTINCT finished_at) FROM history") == 1


def test_a_schedule_that_changed_meanwhile_is_told(pool: Pool) -> None:
    claim = claimed(pool)
    jobs.change(pool, "tick", {"schedule": "@hourly"})
    assert runs.finish(pool, [ended(pool, claim)])[0].schedule == "@hourly"


def test_a_schedule_that_changes_while_a_run_is_finished_moves_the_next_run(pool: Pool) -> None:
    ending = ended(pool, claimed(pool))
    with transaction(pool) as (lent, _):
        runs.finish(lent, [ending])
        changed = beside(pool, lambda: jobs.change(pool, "tick", {"schedule": "@hourly"}))
    assert changed()
    within = value(pool, "SELECT due_at - now() <= interval '1 hour' FROM run")
    assert within


def test_a_change_under_way_is_seen_by_the_finish_that_waits_for_it(pool: Pool) -> None:
    ending = ended(pool, claimed(pool))
    with transaction(pool) as (lent, _):
        jobs.change(lent, "tick", {"schedule": "@hourly"})
        finished = beside(pool, lambda: runs.finish(pool, [ending]))
    assert finished()[0].schedule == "@hourly"


def test_the_next_run_has_the_settings_of_the_code(pool: Pool) -> None:
    claim = claimed(pool)
    job = a_job(priority=7, spread=3)
    runs.finish(pool, [ended(pool, claim, job=job)])
    assert query(pool, "SELECT priority, spread FROM run") == [(7, timedelta(seconds=3))]


def test_any_error_text_of_the_runner_can_be_stored(pool: Pool) -> None:
    text = "\ufffd \\u0000 \\ \" ' \n ☃ 𐍈 %s {}"
    runs.finish(pool, [ended(pool, claimed(pool), "failed", error=text, traceback=text)])
    assert query(pool, "SELECT error, traceback FROM history") == [(text, text)]


def test_a_history_without_a_day_for_now_still_takes_a_finish(pool: Pool) -> None:
    for (name,) in query(
        pool, "SELECT relname FROM pg_class WHERE relname ~ '^history_2' AND relkind = 'r'"
    ):
        with pool.connection() as connection:
            connection.execute(f"DROP TABLE {name}".encode())
    runs.finish(pool, [ended(pool, claimed(pool))])
    assert outcomes(pool) == ["completed"]


def test_a_finish_and_a_take_over_at_once_have_one_winner(pool: Pool) -> None:
    tasks(pool, 1)
    for _ in range(40):
        worker = a_worker(pool)
        execute(pool, "UPDATE run SET not_before = '-infinity', crashes = 0")
        claim = look(pool, worker).claims[0]
        ending = ended(pool, claim, "interrupted")

        def race(number: int, worker: UUID = worker, ending: Ending = ending) -> bool:
            if number == 0:
                return bool(leases.take_over(pool, [worker]))
            return not runs.finish(pool, [ending])[0].fenced

        wins = together(2, race)
        assert sum(wins) == 1
        found = query(pool, "SELECT outcome FROM history WHERE token = %s", claim.token)
        assert sorted(found) in ([("interrupted",)], [("crashed",), ("fenced",)])


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_the_one_who_waits_for_the_other_sees_that_it_lost(pool: Pool, outcome: str) -> None:
    claim = claimed(pool)
    ending = ended(pool, claim, outcome)
    worker = value(pool, "SELECT id FROM worker")
    with transaction(pool) as (lent, _):
        leases.take_over(lent, [worker])
        late = beside(pool, lambda: runs.finish(pool, [ending]))
    assert late()[0].fenced
    assert outcomes(pool) == ["crashed", "fenced"]


def test_a_take_over_that_waits_for_a_finish_finds_nothing_to_take(pool: Pool) -> None:
    ending = ended(pool, claimed(pool))
    worker = value(pool, "SELECT id FROM worker")
    with transaction(pool) as (lent, _):
        runs.finish(lent, [ending])
        taken = beside(pool, lambda: leases.take_over(pool, [worker]))
    assert taken() == []
    assert outcomes(pool) == ["completed"]


def test_attempts_of_a_run_never_overlap_however_they_race(pool: Pool) -> None:
    tasks(pool, 3)
    workers = [a_worker(pool, name=f"host:{number}") for number in range(4)]

    def work(number: int) -> None:
        for _ in range(40):
            for claim in look(pool, workers[number], free=2).claims:
                runs.finish(pool, [ended(pool, claim, "interrupted")])

    together(4, work)
    assert value(pool, "SELECT count(*) FROM history") > 40
    assert query(pool, OVERLAPS) == []
    assert value(pool, "SELECT count(DISTINCT fence) = count(*) FROM history")


OVERLAPS = """
    SELECT run_id, started_at, before FROM (
        SELECT run_id, started_at,
            lag(finished_at) OVER (PARTITION BY run_id ORDER BY fence) AS before FROM history) h
    WHERE started_at < before
    """


def test_what_was_claimed_and_never_answered_is_given_back_uncounted(pool: Pool) -> None:
    tasks(pool, 3)
    worker = a_worker(pool)
    known, *_ = look(pool, worker).claims
    assert leases.beat(pool, worker, [(known.token, None)])
    assert query(pool, "SELECT id, attempt FROM run WHERE token IS NOT NULL") == [(known.id, 1)]
    assert value(pool, "SELECT count(*) FROM run WHERE token IS NULL AND attempt = 0") == 2
    assert outcomes(pool) == []


def test_nobody_gives_back_what_is_another_ones(pool: Pool) -> None:
    tasks(pool, 1)
    claim = look(pool, a_worker(pool)).claims[0]
    leases.beat(pool, uuid4(), [])
    leases.beat(pool, a_worker(pool), [])
    assert value(pool, "SELECT token FROM run") == claim.token


def test_a_task_that_runs_twice_at_once_is_impossible_by_the_schema(pool: Pool) -> None:
    jobs.declare(pool, [a_job()])
    due: datetime = value(pool, "SELECT now()")
    with pytest.raises(Exception, match="run_one_of_a_job"):
        execute(pool, "INSERT INTO run (job, due_at, not_before) VALUES ('tick', %s, %s)", due, due)


def test_a_completed_task_leaves_the_same_row_alone_and_beside_a_failed_one(pool: Pool) -> None:
    """Alone it is written by a shorter statement."""
    jobs.declare(pool, [a_kind(max_retries=5)])
    asked(pool, 3, priority=7, max_retries=2, args={"note": "x"})
    alone, beside_it, failed = taken(pool)
    kind, result = a_kind(max_retries=5), '{"sum": 1}'

    runs.finish(pool, [ended(pool, alone, job=kind, value=result)])
    both = ended(pool, beside_it, job=kind, value=result), ended(pool, failed, "failed", job=kind)
    runs.finish(pool, both)

    first, second = query(
        pool,
        "SELECT to_jsonb(h) - '{run_id,token,fence,due_at,started_at,finished_at}'::text[]"
        " FROM history h WHERE outcome = 'completed' ORDER BY run_id",
    )
    assert first == second
    assert first[0]["result"] == {"sum": 1}
    assert query(pool, "SELECT id FROM run") == [(failed.id,)]


def test_firings_that_somebody_else_is_just_dropping_are_left_to_them(pool: Pool) -> None:
    """Nothing to write is no error: their row is skipped, and what was found is empty."""
    jobs.declare(pool, [a_job(at_once=False)])
    execute(pool, "UPDATE run SET start_by = '-infinity'")
    assert runs.finish(pool, []) == []
    with transaction(pool) as (_, connection):
        connection.execute("SELECT FROM run FOR UPDATE")
        assert runs.drop(pool) == 0
    assert runs.drop(pool) == 1


def test_a_completed_task_that_was_taken_away_is_fenced(pool: Pool) -> None:
    """Also beside others that were not; and said again, these were not either."""
    jobs.declare(pool, [a_kind()])
    asked(pool, 2)
    mine, theirs = taken(pool)
    execute(pool, "UPDATE run SET token = gen_random_uuid() WHERE id = %s", theirs.id)
    said = [ended(pool, claim, job=a_kind()) for claim in (mine, theirs)]

    assert [each.fenced for each in runs.finish(pool, said)] == [False, True]
    assert [each.fenced for each in runs.finish(pool, said)] == [False, True]
    assert sorted(outcomes(pool, KIND)) == ["completed", "fenced"]
    assert query(pool, "SELECT id FROM run") == [(theirs.id,)]
