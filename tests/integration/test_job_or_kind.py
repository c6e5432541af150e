"""A kind of tasks becomes a job of the same name, or the other way round, while it has runs."""

import pytest

from cluster.database import Pool
from cluster.store import jobs, runs
from tests.integration.builders import (
    KIND,
    Web,
    a_job,
    a_kind,
    a_worker,
    asked,
    ended,
    execute,
    look,
    outcomes,
    query,
    value,
)

NAMES = (KIND,)


def test_a_task_of_what_has_become_a_job_runs_once_and_ends(pool: Pool) -> None:
    """And does not become one more firing that comes again and again."""
    job = a_job(name=KIND, at_once=False)
    jobs.declare(pool, [a_kind()])
    (task,) = asked(pool)
    jobs.declare(pool, [job])
    (claim,) = look(pool, a_worker(pool, names=NAMES), names=NAMES).claims
    assert (claim.id, claim.schedule) == (task, None)
    assert not runs.finish(pool, [ended(pool, claim, job=job)])[0].fenced
    assert query(pool, "SELECT scheduled, token FROM run") == [(True, None)]
    assert query(pool, "SELECT run_id, outcome, closing FROM history") == [
        (task, "completed", True)
    ]


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_a_firing_of_what_has_become_a_kind_is_the_last(pool: Pool, outcome: str) -> None:
    """It was claimed before, or waits for its next attempt at the moment."""
    jobs.declare(pool, [a_job(name=KIND)])
    worker = a_worker(pool, names=NAMES)
    execute(pool, "UPDATE job SET declared_schedule = NULL")
    (claim,) = look(pool, worker, names=NAMES).claims
    jobs.declare(pool, [a_kind(max_retries=0)])
    ending = ended(pool, claim, outcome, job=a_kind(max_retries=0), error="x")
    assert not runs.finish(pool, [ending])[0].fenced
    assert query(pool, "SELECT FROM run") == []
    assert outcomes(pool, KIND) == [outcome]
    assert value(pool, "SELECT closing FROM history") is False


def test_a_firing_that_waits_goes_when_its_job_becomes_a_kind(pool: Pool) -> None:
    jobs.declare(pool, [a_job(name=KIND), a_job()])
    jobs.declare(pool, [a_kind(), a_job()])
    (task,) = asked(pool)
    assert query(pool, "SELECT job FROM run WHERE scheduled") == [("tick",)]
    assert query(pool, "SELECT id FROM run WHERE NOT scheduled") == [(task,)]


def test_an_unwanted_firing_of_a_kind_stops_nobody(pool: Pool) -> None:
    """It was cancelled where the code of before is at work; who declares the kind removes it."""
    jobs.declare(pool, [a_job(name=KIND), a_job()])
    for run in query(pool, "SELECT id FROM run"):
        assert Web(pool).ask("POST", f"/runs/{run[0]}/cancel").status == 200
    execute(pool, "UPDATE run SET start_by = '-infinity'")
    execute(pool, "UPDATE job SET declared_schedule = NULL WHERE name = %s", KIND)
    assert runs.drop(pool) == 1
    assert runs.drop(pool) == 0
