"""Pulse: what the workers counted, by the minute, and how it is read for the last hour."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from cluster.database import Pool
from cluster.pulse import Count
from cluster.store import pulse
from cluster.store.views import Row
from tests.integration.builders import (
    NOWHERE,
    a_job,
    a_worker,
    execute,
    jobs_row,
    look,
    query,
    tasks,
    value,
)

A_MINUTE = timedelta(minutes=1)


@pytest.fixture
def minute(pool: Pool) -> datetime:
    """Return the present minute by the database's clock."""
    at: datetime = value(pool, "SELECT date_trunc('minute', now())")
    return at


def row(pool: Pool, minute: datetime) -> Row:
    """Return what is read of a minute."""
    (found,) = [row for row in pulse.minutes(pool) if row["at"] == minute]
    return found


def test_an_hour_without_work_is_sixty_minutes_of_nothing(pool: Pool) -> None:
    """Zeros, and no delay where nothing was started; oldest first, up to the present minute."""
    rows = pulse.minutes(pool)
    now = value(pool, "SELECT now()")
    assert [row["at"] for row in rows] == [rows[0]["at"] + n * A_MINUTE for n in range(60)]
    assert timedelta(0) <= now - rows[-1]["at"] < 2 * A_MINUTE
    assert {tuple(row.values())[1:] for row in rows} == {(0, 0, 0, None, None, 0)}


def test_workers_add_up(pool: Pool, minute: datetime) -> None:
    """Counts are summed, the mean delay is that of all runs, and the longest that of any."""
    pulse.write(pool, uuid4(), [Count(minute, 3, 2, 1, 3.0, 2.5)])
    pulse.write(pool, uuid4(), [Count(minute, 1, 1, 0, 5.0, 5.0)])
    assert row(pool, minute) == {
        "at": minute,
        "started": 4,
        "ended": 3,
        "failed": 1,
        "mean_delay_seconds": 2.0,
        "longest_delay_seconds": 5.0,
        "waiting": 0,
    }


def test_a_write_that_comes_again_or_too_late_changes_nothing(pool: Pool, minute: datetime) -> None:
    """An answer that was lost doubles nothing, and what was overtaken takes nothing back."""
    worker = uuid4()
    older, newer = Count(minute, 1, 1, 1, 1.0, 1.0), Count(minute, 3, 2, 1, 4.0, 2.0)
    for count in (older, newer, newer, older):
        pulse.write(pool, worker, [count])
    expected = (3, 2, 1, 4.0, 2.0)
    fields = "SELECT started, ended, failed, delay_sum, longest_delay FROM pulse"
    assert query(pool, fields) == [expected]


def test_what_waits_is_counted_with_the_present_minute(pool: Pool, minute: datetime) -> None:
    """Due runs of all priorities count; those of another time or a paused job don't."""
    tasks(pool, 3, priority=5)
    tasks(pool, 2, priority=-5)
    tasks(pool, 4, ago=-3600)
    jobs_row(pool, "other")
    execute(pool, "UPDATE run SET job = 'other' WHERE id IN (SELECT id FROM run LIMIT 1)")
    counts = [Count(minute - A_MINUTE), Count(minute)]
    assert pulse.write(pool, uuid4(), counts) == 5
    assert row(pool, minute)["waiting"] == 5
    assert row(pool, minute - A_MINUTE)["waiting"] == 0
    execute(pool, "UPDATE job SET paused = true WHERE name = 'tick'")
    assert pulse.write(pool, uuid4(), counts) == 1


def test_the_most_that_waited_in_a_minute_stays(pool: Pool, minute: datetime) -> None:
    """A queue that came and went between two writes of a minute is seen."""
    tasks(pool, 3)
    worker = uuid4()
    pulse.write(pool, worker, [Count(minute)])
    execute(pool, "DELETE FROM run")
    assert pulse.write(pool, worker, [Count(minute)]) == 0
    assert row(pool, minute)["waiting"] == 3


def test_what_is_under_way_does_not_wait(pool: Pool, minute: datetime) -> None:
    """A run that was claimed is not counted as waiting."""
    tasks(pool, 3)
    look(pool, a_worker(pool), free=2)
    assert pulse.write(pool, uuid4(), [Count(minute)]) == 1


def test_waiting_runs_are_counted_up_to_ten_thousand(pool: Pool, minute: datetime) -> None:
    """However many wait, the count takes no longer."""
    tasks(pool, 6_000)
    tasks(pool, 6_000, priority=1)
    assert pulse.write(pool, uuid4(), [Count(minute)]) == pulse.MOST_WAITING


def test_rows_older_than_a_day_are_forgotten(pool: Pool, minute: datetime) -> None:
    """A day is kept."""
    counts = [Count(minute - timedelta(hours=hours)) for hours in (25, 23, 0)]
    pulse.write(pool, uuid4(), counts)
    pulse.forget(pool)
    kept = [at for (at,) in query(pool, "SELECT minute FROM pulse ORDER BY minute")]
    assert kept == [count.minute for count in counts[1:]]


def test_a_claim_tells_how_long_its_run_had_been_due(pool: Pool) -> None:
    """From the moment it was due, in the order of the claims."""
    tasks(pool, 1, ago=100, priority=1)
    tasks(pool, 1, ago=5)
    found = look(pool, a_worker(pool))
    delays = dict(zip([claim.id for claim in found.claims], found.delays, strict=True))
    for claim in found.claims:
        late = (claim.started_at - claim.due_at).total_seconds()
        assert delays[claim.id] == pytest.approx(late, abs=0.001)
    assert sorted(round(delay) // 5 for delay in delays.values()) == [1, 20]


def test_a_delay_counts_from_the_opening(pool: Pool) -> None:
    """Nobody is late for what was due while there was no cluster."""
    tasks(pool, 1, ago=1000)
    worker = a_worker(pool, process=NOWHERE, names=[a_job().name])
    execute(pool, "UPDATE opening SET opens_at = now() - interval '3 s'")
    (delay,) = look(pool, worker).delays
    assert 3 <= delay < 500
