"""A run's own transaction: committed only while the attempt is current, with its end or without."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from cluster.database import Pool
from cluster.job import Job
from cluster.perform import Result, perform
from cluster.run import Claim, Run, RunStopped
from cluster.store import jobs, leases, runs, tasks
from cluster.store.guard import TokenGuard
from cluster.values import MOST_BYTES, ValueMisfitError
from tests.integration.builders import (
    a_job,
    a_kind,
    a_worker,
    asked,
    beside,
    catalogue_of,
    claimed,
    ended,
    execute,
    expire,
    look,
    outcomes,
    query,
    taken,
    value,
)


@pytest.fixture
def counter(pool: Pool) -> Callable[[], int]:
    execute(pool, "CREATE TABLE counter (value integer NOT NULL)")
    execute(pool, "INSERT INTO counter VALUES (0)")
    return lambda: int(value(pool, "SELECT value FROM counter"))


def add_one(run: Run, *, end: bool = False) -> None:
    with run.transaction() as connection:
        connection.execute("UPDATE counter SET value = value + 1")
        if end:
            run.finish({"done": 1})


def a_task(pool: Pool, kind: Job | None = None, **fields: Any) -> tuple[Claim, Run]:
    kind = kind or a_kind()
    jobs.declare(pool, [kind])
    asked(pool, **fields)
    (claim,) = taken(pool)
    return claim, a_run(pool, claim, kind)


def a_run(pool: Pool, claim: Claim, kind: Job | None = None) -> Run:
    return Run(claim, pool.connection, TokenGuard(catalogue_of(kind or a_kind())))


def taken_away(pool: Pool, claim: Claim) -> None:
    worker = value(pool, "SELECT worker_id FROM run WHERE id = %s", claim.id)
    expire(pool, worker)
    assert [lost.run_id for lost in leases.take_over(pool, [])] == [claim.id]


def test_a_current_attempt_commits(pool: Pool, counter: Callable[[], int]) -> None:
    _, run = a_task(pool)
    add_one(run)
    add_one(run)
    assert counter() == 2


def test_an_attempt_that_was_taken_over_commits_nothing(
    pool: Pool, counter: Callable[[], int]
) -> None:
    claim, run = a_task(pool)
    taken_away(pool, claim)
    with pytest.raises(RunStopped):
        add_one(run)
    assert counter() == 0
    assert (run.cancelled, run.stopped) == (True, "interrupted")


def test_an_attempt_that_was_cancelled_commits_nothing(
    pool: Pool, counter: Callable[[], int]
) -> None:
    claim, run = a_task(pool)
    assert tasks.cancel(pool, claim.id)
    with pytest.raises(RunStopped):
        add_one(run)
    assert counter() == 0
    assert run.stopped == "cancelled"


def test_a_takeover_in_the_middle_of_the_block_wins(pool: Pool, counter: Callable[[], int]) -> None:
    claim, run = a_task(pool)
    with pytest.raises(RunStopped), run.transaction() as connection:  # noqa: PT012 - that order
        connection.execute("UPDATE counter SET value = value + 1")
        taken_away(pool, claim)
    assert counter() == 0


def test_a_takeover_waits_for_a_commit_that_was_let_through(
    pool: Pool, counter: Callable[[], int]
) -> None:
    claim, _ = a_task(pool)
    guard = TokenGuard(catalogue_of(a_kind()))
    expire(pool, value(pool, "SELECT id FROM worker"))
    with pool.connection() as connection, connection.transaction():
        connection.execute("UPDATE counter SET value = value + 1")
        guard.hold(connection, claim)
        over = beside(pool, lambda: leases.take_over(pool, []))
    assert [lost.run_id for lost in over()] == [claim.id]
    assert counter() == 1


def test_a_cancel_waits_for_a_commit_that_was_let_through(pool: Pool) -> None:
    claim, _ = a_task(pool)
    guard = TokenGuard(catalogue_of(a_kind()))
    with pool.connection() as connection, connection.transaction():
        guard.hold(connection, claim)
        cancelled = beside(pool, lambda: tasks.cancel(pool, claim.id))
    assert cancelled()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_takeover_is_noticed_in_a_snapshot_of_before(
    pool: Pool, counter: Callable[[], int], level: str
) -> None:
    claim, run = a_task(pool)
    with pytest.raises(psycopg.errors.SerializationFailure), run.transaction() as connection:  # noqa: PT012
        connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
        connection.execute("UPDATE counter SET value = value + 1")
        taken_away(pool, claim)
    assert counter() == 0


def test_effect_and_completion_are_one_commit(pool: Pool, counter: Callable[[], int]) -> None:
    claim, run = a_task(pool)
    add_one(run, end=True)
    assert (counter(), run.finished) == (1, True)
    found = query(pool, "SELECT outcome, result, closing FROM history WHERE run_id = %s", claim.id)
    assert found == [("completed", {"done": 1}, True)]
    assert value(pool, "SELECT count(*) FROM run") == 0


def test_neither_effect_nor_completion_when_it_was_taken_over(
    pool: Pool, counter: Callable[[], int]
) -> None:
    claim, run = a_task(pool)
    taken_away(pool, claim)
    with pytest.raises(RunStopped):
        add_one(run, end=True)
    assert (counter(), run.finished) == (0, False)
    assert outcomes(pool, "work") == ["crashed"]


@pytest.mark.parametrize("job", [a_kind(), a_job()], ids=["task", "firing"])
def test_the_end_is_dated_to_itself_and_not_to_the_beginning_of_the_block(
    pool: Pool, job: Job
) -> None:
    if job.schedule:
        run = a_run(pool, claimed(pool, job), job)
    else:
        _, run = a_task(pool, job)
    with run.transaction():
        late = value(pool, "SELECT clock_timestamp()")
        run.finish()
    assert late <= value(pool, "SELECT finished_at FROM history")


def test_what_follows_an_end_in_a_block_is_not_due_before_that_end(pool: Pool) -> None:
    """Else the next run might start before the one before has ended, and would count as late."""
    job = a_job()
    claim = claimed(pool, job)
    with pool.connection() as connection, connection.transaction():
        passed = value(pool, "SELECT clock_timestamp()")
        runs.finish_in(connection, ended(pool, claim, job=job)._replace(next_at=passed))
    rows = query(pool, "SELECT not_before = finished_at, not_before > %s FROM run, history", passed)
    assert rows == [(True, True)]


def test_the_end_is_rolled_back_with_the_block(pool: Pool) -> None:
    _, run = a_task(pool)
    with pytest.raises(ZeroDivisionError), run.transaction():  # noqa: PT012 - that order
        run.finish()
        raise ZeroDivisionError
    assert not run.finished
    assert outcomes(pool, "work") == []


def test_the_end_of_a_firing_plans_the_next_by_the_schedule_as_it_is_now(pool: Pool) -> None:
    job = a_job()
    claim = claimed(pool, job)
    jobs.change(pool, "tick", {"schedule": "30 4 1 7 *"})
    run = Run(claim, pool.connection, TokenGuard(catalogue_of(job)))
    with run.transaction():
        run.finish()
    ((due, token),) = query(pool, "SELECT due_at, token FROM run")
    assert (due.month, due.day, due.hour, due.minute, token) == (7, 1, 4, 30, None)
    assert outcomes(pool) == ["completed"]


@pytest.mark.parametrize("then", ["return", "raise", "stop"])
def test_what_comes_after_the_end_changes_nothing(pool: Pool, then: str) -> None:
    def work(run: Run) -> str:
        with run.transaction():
            run.finish("the result")
        if then == "raise":
            raise ZeroDivisionError
        if then == "stop":
            run.stop("interrupted")
            run.check()
        return "another"

    kind = a_kind(function=work)
    claim, run = a_task(pool, kind)
    assert perform(kind, run, claim.args) == Result("completed", written=True)
    assert value(pool, "SELECT result FROM history") == "the result"


def test_a_finish_that_was_committed_and_not_heard_of_ends_the_run_once(pool: Pool) -> None:
    claim, run = a_task(pool)
    with run.transaction():
        run.finish()
    # What the loop writes of a function to which the commit looked like a failure.
    job = a_kind()
    (written,) = runs.finish(pool, [ended(pool, claim, "failed", job=job)])
    assert written.fenced
    assert outcomes(pool, "work") == ["completed", "fenced"]


def test_what_the_next_attempt_finds(pool: Pool) -> None:
    claim, run = a_task(pool)
    assert run.checkpoint.value is None
    run.checkpoint({"line": 7, "names": ["ä", "b"]})
    assert run.checkpoint.value == {"line": 7, "names": ["ä", "b"]}
    taken_away(pool, claim)
    (again,) = taken(pool)
    assert a_run(pool, again).checkpoint.value == {"line": 7, "names": ["ä", "b"]}


def test_a_checkpoint_stays_through_failure_and_interruption(pool: Pool) -> None:
    claim, run = a_task(pool)
    run.checkpoint(5)
    for outcome in ("failed", "interrupted"):
        runs.finish(pool, [ended(pool, claim, outcome, job=a_kind(retry_delay=0))])
        (claim,) = taken(pool)
        assert a_run(pool, claim).checkpoint.value == 5


def test_the_next_firing_begins_without_a_checkpoint(pool: Pool) -> None:
    job = a_job(schedule="@every 1s")
    worker = a_worker(pool)
    claim = claimed(pool, job, worker)
    run = Run(claim, pool.connection, TokenGuard(catalogue_of(job)))
    run.checkpoint(5)
    runs.finish(pool, [ended(pool, claim, "completed", job=job)])
    execute(pool, "UPDATE run SET not_before = now()")
    (after,) = look(pool, worker).claims
    assert after.checkpoint is None


def test_a_checkpoint_of_an_attempt_that_was_taken_over_is_refused(pool: Pool) -> None:
    claim, run = a_task(pool)
    run.checkpoint(1)
    taken_away(pool, claim)
    with pytest.raises(RunStopped):
        run.checkpoint(2)
    assert run.checkpoint.value == 1
    assert value(pool, "SELECT checkpoint FROM run") == 1


def test_a_checkpoint_is_kept_with_its_transaction(pool: Pool, counter: Callable[[], int]) -> None:
    _, run = a_task(pool)
    with pytest.raises(ZeroDivisionError), run.transaction() as connection:  # noqa: PT012
        connection.execute("UPDATE counter SET value = value + 1")
        run.checkpoint(1)
        raise ZeroDivisionError
    assert (counter(), value(pool, "SELECT checkpoint FROM run")) == (0, None)
    with run.transaction() as connection:
        connection.execute("UPDATE counter SET value = value + 1")
        run.checkpoint(1)
        assert value(pool, "SELECT checkpoint FROM run") is None
    assert (counter(), value(pool, "SELECT checkpoint FROM run")) == (1, 1)


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        (object(), "JSON"),
        ({1: 2}, "JSON"),
        ("x" * MOST_BYTES, "bytes"),
        ({"a": "\x00"}, "NUL"),
        (2**70, "JSON"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    pool: Pool, kept: object, why: str
) -> None:
    _, run = a_task(pool)
    run.checkpoint("before")
    with pytest.raises(ValueMisfitError, match=why):
        run.checkpoint(kept)
    with pytest.raises(ValueMisfitError, match=why), run.transaction():
        run.finish(kept)
    assert (run.checkpoint.value, run.finished) == ("before", False)
    assert value(pool, "SELECT checkpoint FROM run") == "before"


def test_a_beat_does_not_wait_for_a_jobs_transaction(pool: Pool) -> None:
    claim, _ = a_task(pool)
    worker = value(pool, "SELECT id FROM worker")
    with pool.connection() as connection, connection.transaction():
        TokenGuard(catalogue_of(a_kind())).hold(connection, claim)
        assert leases.beat(pool, worker, [(claim.token, 0.5)])
    assert value(pool, "SELECT progress FROM run") is None
    assert leases.beat(pool, worker, [(claim.token, 0.5)])
    assert value(pool, "SELECT progress FROM run") == 0.5


def test_misuse_is_an_error_that_says_so(pool: Pool) -> None:
    _, run = a_task(pool)
    with pytest.raises(RuntimeError, match="inside"):
        run.finish()
    with run.transaction(), pytest.raises(RuntimeError, match="nests"):
        run.transaction().__enter__()
    with run.transaction():
        run.finish()
    with pytest.raises(RuntimeError, match="end"), run.transaction():
        pass


def test_two_threads_of_a_run_have_transactions_of_their_own(
    pool: Pool, counter: Callable[[], int]
) -> None:
    _, run = a_task(pool)
    with run.transaction() as connection:
        connection.execute("SELECT 1")
        thread = threading.Thread(target=add_one, args=(run,))
        thread.start()
        thread.join()
    assert counter() == 1


def test_a_connection_with_rows_of_another_kind_is_guarded_as_well(pool: Pool) -> None:
    _, run = a_task(pool)
    with run.transaction() as connection:
        connection.row_factory = psycopg.rows.dict_row  # type: ignore[assignment]
        run.finish()
    assert run.finished
