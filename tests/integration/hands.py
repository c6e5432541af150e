"""Hands: real workers over a real database, in threads of this process."""

from collections.abc import Iterator
from contextlib import contextmanager

from cluster import database
from cluster.database import Pool
from cluster.job import Job
from cluster.nudge import Nudge
from cluster.perform import Result
from cluster.process import Identity
from cluster.runner import Apart, Attempt, Runner
from cluster.worker import Worker
from tests.integration.builders import HERE, catalogue_of

ENGINE = "ronin engine"


def nobody_apart(_attempt: Attempt) -> Result:
    """Stand where a suspect would be performed; nobody here is one."""
    raise AssertionError("no suspect here")


class Hand:
    """A worker of this process."""

    def __init__(
        self, engine: Pool, lent: Pool, declared: tuple[Job, ...], number: int, apart: Apart
    ) -> None:
        self.nudge = Nudge()
        self.alive = True
        self.worker = Worker(
            name=f"hand:{number}",
            # Hosts of their own, so that nobody looks for a process that never was.
            process=Identity(f"host of hand {number}", number, 1) if number else HERE,
            catalogue=catalogue_of(*declared),
            pool=engine,
            runner=Runner(8, lent.connection, apart, self.nudge.set),
            lease_seconds=3,
            retention_days=30,
            alive=lambda: self.alive,
            nudge=self.nudge,
        )


@contextmanager
def working(
    url: str, *declared: Job, number: int = 0, apart: Apart = nobody_apart, path: str = "public"
) -> Iterator[Hand]:
    """Let a worker work, and stop it in the end."""
    session = {**database.ONE_PLAN, "search_path": path}
    with (
        database.pool(url, ENGINE, size=1, session=session) as engine,
        database.pool(url, "ronin jobs", size=2) as lent,
    ):
        hand = Hand(engine, lent, declared, number, apart)
        hand.worker.start()
        try:
            yield hand
        finally:  # a test that fails must not leave a thread to the others
            hand.worker.stop(within=20)
