"""A late end that comes twice at once: its first statement was lost on the way, and arrives."""

from cluster.database import Pool
from cluster.store import leases, runs
from tests.integration.builders import a_worker, beside, claimed, ended, outcomes, transaction


def test_a_late_end_is_recorded_once(pool: Pool) -> None:
    worker = a_worker(pool)
    ending = ended(pool, claimed(pool, worker=worker))
    leases.take_over(pool, [worker])
    with transaction(pool) as (lent, _):
        assert runs.finish(lent, [ending])[0].fenced
        second = beside(pool, lambda: runs.finish(pool, [ending]))
    assert second()[0].fenced
    assert outcomes(pool) == ["crashed", "fenced"]
