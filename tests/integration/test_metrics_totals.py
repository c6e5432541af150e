"""Totals: counters that only grow, from the pulse, whatever is repeated, dropped or forgotten."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from cluster.database import Pool
from cluster.pulse import STARTED, Count, Pulse
from cluster.store import jobs, metrics, pulse
from tests.integration.builders import (
    Web,
    a_job,
    beside,
    execute,
    query,
    together,
    transaction,
    value,
)
from tests.integration.test_metrics import samples

A_MINUTE = timedelta(minutes=1)


@pytest.fixture
def minute(pool: Pool) -> datetime:
    """Return the present minute by the database's clock."""
    at: datetime = value(pool, "SELECT date_trunc('minute', now())")
    return at


def a_count(minute: datetime, *ends: str, job: str = "tick", seconds: float = 2.0) -> Count:
    """Return a minute with an attempt for each outcome, or `started`."""
    count = Count(minute)
    for end in ends:
        count.add(job, end, seconds, minute)
    return count


def totals(pool: Pool) -> dict[tuple[str, str], tuple[int, float]]:
    """Return the attempts and seconds that are told."""
    return {
        (row["job"], row["what"]): (row["attempts"], row["seconds"])
        for row in metrics.figures(pool).totals
    }


def folded(pool: Pool) -> list[tuple[object, ...]]:
    """Return what stands in the totals already."""
    return query(pool, "SELECT job, what, attempts, seconds FROM total ORDER BY 1, 2")


def test_workers_add_up(pool: Pool, minute: datetime) -> None:
    pulse.write(pool, uuid4(), [a_count(minute, STARTED, "completed", "completed")])
    pulse.write(pool, uuid4(), [a_count(minute, STARTED, "failed", seconds=0.5)])
    assert totals(pool) == {
        ("tick", STARTED): (2, 2.5),
        ("tick", "completed"): (2, 4.0),
        ("tick", "failed"): (1, 0.5),
    }
    assert folded(pool) == []


def test_a_minute_that_is_over_is_added_once(pool: Pool, minute: datetime) -> None:
    worker = uuid4()
    first, second = a_count(minute - A_MINUTE, "completed"), a_count(minute, "completed")
    for counts in ([first], [first, second], [first, second], [second], [second]):
        before = totals(pool).get(("tick", "completed"), (0, 0.0))
        pulse.write(pool, worker, counts)
        assert totals(pool)["tick", "completed"] >= before
    assert folded(pool) == [("tick", "completed", 1, 2.0)]
    assert totals(pool) == {("tick", "completed"): (2, 4.0)}
    pulse.write(pool, worker, [a_count(minute + A_MINUTE, "completed")])
    assert totals(pool) == {("tick", "completed"): (3, 6.0)}
    assert value(pool, "SELECT count(*) FROM pulse_job") == 1


def test_a_write_that_comes_again_or_too_late_changes_nothing(pool: Pool, minute: datetime) -> None:
    worker = uuid4()
    older, newer = a_count(minute, "failed"), a_count(minute, "failed", "failed", "failed")
    for count in (older, newer, newer, older):
        pulse.write(pool, worker, [count])
    assert totals(pool) == {("tick", "failed"): (3, 6.0)}


def test_what_is_known_is_not_written_again(pool: Pool, minute: datetime) -> None:
    """Whole minutes are sent every ten seconds; a row is new only where something was counted."""
    worker, count = uuid4(), a_count(minute, "completed")
    pulse.write(pool, worker, [count])
    before = query(pool, "SELECT ctid::text, xmin::text, xmax::text FROM pulse_job")
    pulse.write(pool, worker, [count])
    assert query(pool, "SELECT ctid::text, xmin::text, xmax::text FROM pulse_job") == before


def test_a_write_whose_twin_is_still_under_way_adds_nothing_twice(
    pool: Pool, minute: datetime
) -> None:
    """The connection broke, the statement did not: it commits beside the one that repeats it."""
    worker = uuid4()
    pulse.write(pool, worker, [a_count(minute - A_MINUTE, "completed")])
    counts = [a_count(minute, "completed", "failed")]
    with transaction(pool) as (twin, _):
        pulse.write(twin, worker, counts)
        repeated = beside(pool, lambda: pulse.write(pool, worker, counts))
    repeated()
    assert totals(pool) == {("tick", "completed"): (2, 4.0), ("tick", "failed"): (1, 2.0)}


def test_many_workers_at_once_lose_nothing(pool: Pool, minute: datetime) -> None:
    """They lock the totals in one order, so none waits for another in a circle."""

    def work(number: int) -> None:
        worker = UUID(int=number + 1)
        for passed in range(10):
            count = Count(minute + passed * A_MINUTE)
            names = ["a", "b", "c"] if number % 2 else ["c", "b", "a"]
            for name in names:
                count.add(name, "completed", 1.0, minute)
            pulse.write(pool, worker, [count])

    together(6, work)
    assert totals(pool) == {(name, "completed"): (60, 60.0) for name in "abc"}


def test_who_reads_meanwhile_never_sees_less(pool: Pool, minute: datetime) -> None:
    """A minute leaves the one table in the statement that adds it to the other."""
    worker = uuid4()
    for passed in range(5):
        pulse.write(pool, worker, [a_count(minute + passed * A_MINUTE, "completed")])
        with transaction(pool) as (other, _):
            pulse.write(other, worker, [a_count(minute + (passed + 1) * A_MINUTE, "completed")])
            assert totals(pool)["tick", "completed"] == (passed + 1, 2.0 * (passed + 1))


def test_the_last_minutes_of_a_dead_worker_are_added_after_a_day(
    pool: Pool, minute: datetime
) -> None:
    for hours in (25, 25, 1):
        pulse.write(pool, uuid4(), [a_count(minute - timedelta(hours=hours), "completed")])
    before = totals(pool)
    for _ in range(2):
        pulse.forget(pool)
        assert totals(pool) == before == {("tick", "completed"): (3, 6.0)}
    assert folded(pool) == [("tick", "completed", 2, 4.0)]
    assert value(pool, "SELECT count(*) FROM pulse_job") == 1


def test_what_a_worker_counted_before_a_day_of_rest_is_added_once(
    pool: Pool, minute: datetime
) -> None:
    """Somebody else has added it meanwhile, and must not see it come back."""
    worker, counted = uuid4(), Pulse()
    for at in (minute - timedelta(hours=25), minute, minute + 3 * A_MINUTE):
        counted.ended(at, "completed", "tick", 2.0)
        for _ in range(2):
            counted.written(at, pulse.write(pool, worker, counted.sent(at)))
        pulse.forget(pool)
    assert totals(pool) == {("tick", "completed"): (3, 6.0)}


def test_counters_outlive_history_and_pulse(pool: Pool, minute: datetime) -> None:
    """And the last success is known when no attempt of it is."""
    jobs.declare(pool, [a_job()])
    pulse.write(pool, uuid4(), [a_count(minute, STARTED, "completed", seconds=3.0)])
    execute(pool, "DELETE FROM history")
    execute(pool, "DELETE FROM pulse")
    found = samples(Web(pool))
    assert found["ronin_attempts_ended_total", "tick", "completed"] == 1
    assert found["ronin_attempts_ended_total", "tick", "failed"] == 0
    assert found["ronin_start_delay_seconds_count", "tick"] == 1
    assert found["ronin_start_delay_seconds_sum", "tick"] == 3.0
    assert found["ronin_attempt_duration_seconds_sum", "tick"] == 3.0
    at = found["ronin_job_last_success_timestamp_seconds", "tick"]
    assert at == pytest.approx(minute.timestamp())


def test_a_pulse_tells_its_counts_by_job(pool: Pool, minute: datetime) -> None:
    """From a worker's memory to the totals."""
    counted = Pulse()
    counted.started(minute, 0.5, "a")
    counted.started(minute, 1.5, "a")
    counted.ended(minute + A_MINUTE, "completed", "a", 7.0)
    counted.ended(minute + A_MINUTE, "crashed", "b")
    pulse.write(pool, uuid4(), counted.sent(minute + A_MINUTE))
    assert totals(pool) == {
        ("a", STARTED): (2, 2.0),
        ("a", "completed"): (1, 7.0),
        ("b", "crashed"): (1, 0.0),
    }
