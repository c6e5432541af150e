"""What the cluster under test performs: ten equal jobs, and tasks that behave well and badly."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster import Run, job, task
from tests.chaos.tables import JOBS

JOB_SECONDS = 3.0


@contextmanager
def noted(run: Run) -> Iterator[None]:
    """Note when the body of an attempt was at work, whoever holds its run by now."""
    begun = "INSERT INTO body (run_id, token, worker) VALUES (%s, %s, %s)"
    ended = "UPDATE body SET ended_at = clock_timestamp() WHERE token = %s"
    with run.connection() as connection:
        connection.execute(begun, (run.id, run.token, run.worker))
    try:
        yield
    finally:
        with run.connection() as connection:
            connection.execute(ended, (run.token,))


def _wait(run: Run, seconds: float) -> None:
    steps = 20
    for step in range(steps):
        run.progress(step / steps)
        run.wait(seconds / steps)


def _count_and_end(run: Run) -> None:
    """Move the counter by one and end, in one commit: so nothing here asks who was first."""
    with run.transaction() as connection:
        connection.execute("INSERT INTO counted VALUES (%s, %s, now())", (run.id, run.token))
        connection.execute("UPDATE counter SET value = value + 1")
        run.finish()


def _equal(run: Run) -> None:
    """Wait some seconds, then count and end in one commit."""
    with noted(run):
        _wait(run, JOB_SECONDS)
    _count_and_end(run)


for _number in range(JOBS):
    job(name=f"equal-{_number}", every="5s", at_once=True, retry_delay=0.2, max_retries=50)(_equal)

_PATIENT: dict[str, Any] = {"retry_delay": 0.2, "retry_longest": "2s", "max_retries": 100}


@task(**_PATIENT)
def count(run: Run) -> None:
    """Count and end, almost at once."""
    run.wait(random.uniform(0, 0.2))
    _count_and_end(run)


@task(**_PATIENT)
def long(run: Run, seconds: float) -> str:
    """Wait, and note when."""
    with noted(run):
        _wait(run, seconds)
    return "done"


@task(retry_delay=0.1, max_retries=3)
def flaky(run: Run) -> None:
    """Fail as often as not."""
    run.wait(0.1)
    if random.random() < 0.5:
        raise ValueError("as often as not")


@task(**_PATIENT)
def poison(run: Run) -> None:
    """Kill its own process, as often as not."""
    if random.random() < 0.5:
        alone = not run.worker.endswith(f":{os.getpid()}")
        with run.connection() as connection:
            connection.execute(
                "INSERT INTO suicide (run_id, worker, alone) VALUES (%s, %s, %s)",
                (run.id, run.worker, alone),
            )
        os.kill(os.getpid(), 9)
