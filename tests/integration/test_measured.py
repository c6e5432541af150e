"""What the sample jobs measure."""

import pytest

import jobs.measure
from cluster.database import Pool
from cluster.job import catalogue
from cluster.perform import perform
from cluster.run import Run
from cluster.store import leases
from tests.integration.builders import a_worker, claimed, execute, look, tasks, value


def test_the_spread_is_of_those_who_share(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remote workers take what they ask for, and who is leaving takes nothing more."""
    monkeypatch.setenv("RONIN_SAMPLE_SECONDS", "0")
    job = catalogue.get("measure-spread")
    assert job
    assert job.function is jobs.measure.spread
    measuring, beside, remote, leaving = (
        a_worker(pool, names=["tick", job.name], name=f"host:{number}") for number in range(4)
    )
    claim = claimed(pool, job, measuring)
    for worker, count in ((measuring, 2), (beside, 1), (remote, 7)):
        tasks(pool, count)
        assert len(look(pool, worker, free=count).claims) == count
    execute(pool, "UPDATE worker SET remote = true WHERE id = %s", remote)
    leases.leave(pool, leaving)

    assert perform(job, Run(claim, pool.connection), claim.args).outcome == "completed"

    assert value(pool, "SELECT body->'worst' FROM finding") == 3 - 1
