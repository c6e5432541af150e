"""Charge a customer, with and without the guard; tests/system/test_exactly_once.py runs both."""

import time

from cluster import Run, task

CHARGE = "INSERT INTO charge (kind, customer) VALUES (%s, %s)"


@task(name="charge-unguarded", retry_delay=0)
def charge_unguarded(run: Run, customer: int) -> None:
    """Charge twice if this process sleeps here for longer than its lease."""
    time.sleep(1)
    with run.connection() as connection:
        connection.execute(CHARGE, (run.job, customer))


@task(name="charge", retry_delay=0)
def charge(run: Run, customer: int) -> None:
    """Charge once: the charge and the end of the task are one commit, or there is none."""
    time.sleep(1)
    with run.transaction() as connection:
        connection.execute(CHARGE, (run.job, customer))
        run.finish()
