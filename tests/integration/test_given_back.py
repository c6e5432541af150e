"""A claim whose answer was lost, and which its worker's next beat gives back."""

from datetime import timedelta

from cluster.database import Pool
from cluster.store import jobs, leases
from tests.integration.builders import a_job, a_kind, a_worker, asked, end, look, taken, value


def test_a_task_that_never_started_keeps_its_deadline(pool: Pool) -> None:
    jobs.declare(pool, [a_kind()])
    deadline = value(pool, "SELECT now()") + timedelta(hours=1)
    asked(pool, deadline=deadline)
    worker = a_worker(pool, names=["work"])
    assert taken(pool, worker=worker)
    leases.beat(pool, worker, [])
    assert value(pool, "SELECT token IS NULL AND attempt = 0 FROM run")
    assert value(pool, "SELECT start_by FROM run") == deadline


def test_a_firing_that_never_started_has_not_begun(pool: Pool) -> None:
    jobs.declare(pool, [a_job(retry_delay=0)])
    worker = a_worker(pool)
    (claim,) = look(pool, worker).claims
    leases.beat(pool, worker, [])
    assert value(pool, "SELECT begun_at FROM run") is None
    (claim,) = look(pool, worker).claims
    begun = value(pool, "SELECT begun_at FROM run")
    assert begun == claim.started_at
    end(pool, claim, "interrupted", a_job())
    assert look(pool, worker).claims
    leases.beat(pool, worker, [])
    assert value(pool, "SELECT begun_at FROM run") == begun
