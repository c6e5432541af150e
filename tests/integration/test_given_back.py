"""A claim whose answer was lost, and which its worker's next beat gives back."""

from datetime import timedelta

from cluster.database import Pool
from cluster.store import jobs, leases
from tests.integration.builders import a_kind, a_worker, asked, taken, value


def test_a_task_that_never_started_keeps_its_deadline(pool: Pool) -> None:
    jobs.declare(pool, [a_kind()])
    deadline = value(pool, "SELECT now()") + timedelta(hours=1)
    asked(pool, deadline=deadline)
    worker = a_worker(pool, names=["work"])
    assert taken(pool, worker=worker)
    leases.beat(pool, worker, [])
    assert value(pool, "SELECT token IS NULL AND attempt = 0 FROM run")
    assert value(pool, "SELECT start_by FROM run") == deadline
