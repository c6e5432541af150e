"""pgqueuer as a peer of the drain benchmark: see ../README.md.

default is the README: asyncpg, one connection, and a worker as `pgq run` starts it.
best is what guides/performance-tuning of its documentation says of jobs that take less than a
second: a greater `batch_size`, by which jobs are both fetched and marked as done; `pgq autovac`
after the installation; and still one connection for the queue manager, as its checklist has it.
Durability stays `durable`: the faster levels lose jobs in a crash.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pgqueuer
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

sys.path.append(str(Path(__file__).parents[3]))

from benchmarks.peers.contract import BEST, Peer, Stamps, profile, run

ENTRYPOINT = "noop"

best = profile() == BEST
batch_size = 100 if best else 10
"""Jobs fetched and marked as done in one go; 10 is the default."""
stamps = Stamps()


@asynccontextmanager
async def queries() -> AsyncIterator[Queries]:
    """Connect for a moment."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        yield Queries(AsyncpgDriver(connection))
    finally:
        await connection.close()


async def prepare() -> None:
    """Make the schema, as `pgq install` does, and tune its tables as `pgq autovac` does."""
    async with queries() as connected:
        await connected.install()
        if best:
            await connected.optimize_autovacuum()


async def enqueue(jobs: int) -> None:
    """Enqueue the jobs with the bulk call, which is one statement."""
    async with queries() as connected:
        await connected.enqueue([ENTRYPOINT] * jobs, [None] * jobs, [0] * jobs)


@asynccontextmanager
async def worker() -> AsyncIterator[PgQueuer]:
    """Give the worker with its job, once it is connected."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    made = PgQueuer(AsyncpgDriver(connection))

    @made.entrypoint(ENTRYPOINT)
    async def noop(_: Job) -> None:
        stamps.note()

    stamps.start()
    stamps.ready()
    yield made
    await connection.close()


if __name__ == "__main__":
    run(
        Peer(
            name="pgqueuer",
            settings=f"asyncpg, one connection, uvloop, batch_size={batch_size}, durable"
            + (", autovacuum tuned by `pgq autovac`" if best else "")
            + "; enqueue of lists",
            prepare=lambda: uvloop.run(prepare()),
            enqueue=lambda jobs: uvloop.run(enqueue(jobs)),
            work=lambda: uvloop.run(pgqueuer.run(worker, batch_size=batch_size)),
        )
    )
