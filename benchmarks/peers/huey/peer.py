"""huey on PostgreSQL as a peer of the drain benchmark: see ../README.md.

default is the README: one worker thread. huey deletes a task's row before it performs the task, so
what a dying worker was at is lost ("delivered at-most-once", guide); no setting changes that. There
is no bulk call that is one transaction: `map` commits every task by itself.

best is what the troubleshooting page says of slow consumers ("most applications benefit from at
least 2-4 workers"), of results that nobody reads (`results=False`), and consumer.rst of saving
cycles (`--no-periodic`).

Quiet in both profiles (`-q`): a line of log for every task is no work of the queue's.
"""

import os
import sys
from pathlib import Path

from huey import PostgresHuey

sys.path.append(str(Path(__file__).parents[3]))

from benchmarks.peers.contract import BEST, Peer, Stamps, profile, run

best = profile() == BEST
workers = 4 if best else 1
"""Threads of a consumer."""
stamps = Stamps()
huey = PostgresHuey(
    "peer", dsn=os.environ.get("DATABASE_URL"), create_tables=False, results=not best
)


@huey.task()
def noop() -> None:
    """Do nothing."""
    stamps.note()


@huey.on_startup()
def in_worker() -> None:
    """Say that a thread of the consumer takes tasks now."""
    stamps.ready()


def prepare() -> None:
    """Make the tables, as the first use of huey does unless told not to."""
    huey.storage.initialize_schema()


def enqueue(jobs: int) -> None:
    """Enqueue the tasks, each in a transaction of its own."""
    noop.map([()] * jobs)


def work() -> None:
    """Be a consumer until TERM."""
    stamps.start()
    huey.create_consumer(workers=workers, periodic=not best, graceful_signal="TERM").run()


if __name__ == "__main__":
    run(
        Peer(
            name="huey",
            settings=f"PostgresHuey, {workers} thread(s), quiet; map, a transaction for each task"
            + ("; results=False, periodic=False" if best else ""),
            prepare=prepare,
            enqueue=enqueue,
            work=work,
        )
    )
