"""Waiting: the smallest job there is."""

from cluster import Run, job
from jobs.sample import SAMPLE, steps


@job(name="wait", schedule="*/20 * * * *", **SAMPLE)
def wait(run: Run) -> None:
    """Wait, and do nothing."""
    waited = sum(1 for _ in steps(run))
    run.log.info("waited", steps=waited)
