"""Waiting: the smallest job there is that goes on where its last attempt was interrupted."""

from cluster import Run, job
from jobs.sample import SAMPLE, keep, steps


@job(name="wait", schedule="*/20 * * * *", **SAMPLE)
def wait(run: Run) -> None:
    """Wait, and do nothing."""
    before = run.checkpoint.value or 0.0
    for waited in steps(run, before):
        keep(run, waited)
    run.log.info("waited", resumed_at_seconds=round(before, 1))
