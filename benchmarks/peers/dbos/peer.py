"""DBOS Transact for Python as a peer of the drain benchmark: see ../README.md.

default is the queue worker of its examples (python/examples/queue-worker): a queue without limits,
which every worker looks at once a second, taking all that it finds.

best is what the documentation offers for sharing a queue out and for reacting soon (queue tutorial,
"Worker Concurrency"; reference/queues, `polling_interval_sec`; reference/configuration,
`max_executor_threads` and `sys_db_pool_size`). It gives no values for many short workflows; those
here let a worker take up to 100 workflows ten times a second, and perform them in ten threads with
a connection each, which keeps five workers within a server's 100 connections.

The enqueuer is a DBOSClient, as in that example; `enqueue_in_transaction` (reference/client) is its
only way to put many workflows in with one commit. There is no call for several at once.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import sqlalchemy
from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions

sys.path.append(str(Path(__file__).parents[3]))

from benchmarks.peers.contract import BEST, Peer, Stamps, profile, run

APPLICATION, QUEUE, WORKFLOW = "peer", "noop-queue", "noop"
TAKEN_AT_MOST = 100
LOOK_EVERY_S = 0.1
THREADS = 10
GRACE_S = 3
"""How long a worker that is told to end waits for its workflows."""

best = profile() == BEST
stamps = Stamps()


@DBOS.workflow(name=WORKFLOW)
def noop() -> None:
    """Do nothing."""
    stamps.note()


def launch() -> None:
    """Bring DBOS and the queue up in this process; that makes the schema if there is none."""
    config: DBOSConfig = {
        "name": APPLICATION,
        "application_version": "1",
        "executor_id": str(os.getpid()),  # "must be set to a unique value for each process"
        "system_database_url": os.environ["DATABASE_URL"],
    }
    if best:
        config["max_executor_threads"] = THREADS
        config["sys_db_pool_size"] = THREADS
    DBOS(config=config)
    DBOS.launch()
    if best:
        DBOS.register_queue(
            QUEUE, worker_concurrency=TAKEN_AT_MOST, polling_interval_sec=LOOK_EVERY_S
        )
    else:
        DBOS.register_queue(QUEUE)


def prepare() -> None:
    """Make the schema and the queue."""
    launch()
    DBOS.destroy()


def enqueue(jobs: int) -> None:
    """Enqueue the workflows in one transaction."""
    url = sqlalchemy.make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
    options: EnqueueOptions = {"queue_name": QUEUE, "workflow_name": WORKFLOW}
    client = DBOSClient(
        system_database_url=os.environ["DATABASE_URL"], application_name=APPLICATION
    )
    with sqlalchemy.create_engine(url).begin() as connection:
        for _ in range(jobs):
            client.enqueue_in_transaction(connection, options)
    client.destroy()


def work() -> None:
    """Be a worker until TERM."""
    told = threading.Event()

    def tell(_number: int, _frame: FrameType | None) -> None:
        told.set()

    signal.signal(signal.SIGTERM, tell)
    stamps.start()
    launch()
    stamps.ready()
    told.wait()
    DBOS.destroy(workflow_completion_timeout_sec=GRACE_S)


if __name__ == "__main__":
    run(
        Peer(
            name="dbos",
            settings=(
                f"worker_concurrency={TAKEN_AT_MOST}, polling_interval_sec={LOOK_EVERY_S},"
                f" max_executor_threads={THREADS}, sys_db_pool_size={THREADS}"
                if best
                else "a queue as registered by its name alone: no limits, looked at once a second"
            )
            + "; enqueue_in_transaction; workflows are kept when done",
            prepare=prepare,
            enqueue=enqueue,
            work=work,
        )
    )
