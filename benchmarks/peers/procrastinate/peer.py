"""procrastinate as a peer of the drain benchmark: see ../README.md.

default is the quickstart: a synchronous task, and a worker as `procrastinate worker` starts it.
best is what the documentation says of throughput:

- "Execute multiple jobs at the same time" (howto/production/concurrency): an asynchronous task,
  and its example's concurrency of 30;
- "Mind the size of your PostgreSQL pool" (discussions): "the shorter your average job execution
  time, the more your pool will need to contain as many connections as your concurrency (plus one)".
  Five workers with 31 connections each would be more than a server takes by default (100), and far
  more than two cores can use, so both are smaller here.

Jobs stay in the table when they are done, as by default; nothing is said of deletion as a matter
of speed.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from procrastinate import App, PsycopgConnector

sys.path.append(str(Path(__file__).parents[3]))

from benchmarks.peers.contract import BEST, Peer, Stamps, profile, run

best = profile() == BEST
concurrency = 10 if best else 1
"""Jobs that a worker performs at once. Five workers of 10, with one more connection in the pool and
one for LISTEN each, make 60 connections; 1 is the default."""
pool: dict[str, Any] = {"min_size": 11, "max_size": 11} if best else {}
stamps = Stamps()
app = App(connector=PsycopgConnector(conninfo=os.environ.get("DATABASE_URL", ""), **pool))


@app.task(name="noop")
def noop() -> None:
    """Do nothing."""
    stamps.note()


@app.task(name="async_noop")
async def async_noop() -> None:
    """Do nothing, on the worker's event loop."""
    stamps.note()


def prepare() -> None:
    """Make the schema, as `procrastinate schema --apply` does."""
    with app.open():
        app.schema_manager.apply_schema()


def enqueue(jobs: int) -> None:
    """Defer the jobs with the bulk call, which is one statement."""
    with app.open():
        (async_noop if best else noop).batch_defer(*({} for _ in range(jobs)))


def work() -> None:
    """Be a worker until TERM."""
    stamps.start()
    asyncio.run(_work())


async def _work() -> None:
    async with app.open_async():
        await app.check_connection_async()
        stamps.ready()
        await app.run_worker_async(concurrency=concurrency)


if __name__ == "__main__":
    run(
        Peer(
            name="procrastinate",
            settings=(
                f"asynchronous task, concurrency={concurrency}, pool of {pool['max_size']}"
                if best
                else "as in the quickstart: synchronous task, concurrency=1"
            )
            + "; batch_defer; psycopg[binary]; jobs are kept when done",
            prepare=prepare,
            enqueue=enqueue,
            work=work,
        )
    )
