"""Celery with Redis as a peer of the drain benchmark: see ../README.md.

The broker is at REDIS_URL; DATABASE_URL is not used, and there is no left.sql. How durable a job is
depends on that Redis alone: only with `appendonly yes` and `appendfsync always` is it on disk
before `enqueue` ends, as with the peers that use PostgreSQL.

default is "First Steps with Celery": a prefork pool, here of one child, and no result backend.
best is what userguide/optimizing says of many short tasks ("Prefetch Limits": "this number should
be large ... say 64, or 128"); the rest of that page gives up durability, or is about long tasks.

Both acknowledge late (userguide/tasks, `acks_late`). With the default a task is forgotten by the
broker just before it is performed, and lost when its worker dies; the other peers keep it.
"""

import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_process_init, worker_ready

sys.path.append(str(Path(__file__).parents[3]))

from benchmarks.peers.contract import BEST, Peer, Stamps, profile, run

best = profile() == BEST
prefetch = 128 if best else 4
"""Tasks that a worker reserves for each of its children; 4 is the default."""
stamps = Stamps()
app = Celery("peer", broker=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = prefetch


@app.task(name="noop")
def noop() -> None:
    """Do nothing."""
    stamps.note()


@worker_process_init.connect
def in_child(**_: Any) -> None:
    """Stamp in the child, which performs the tasks."""
    stamps.start()


@worker_ready.connect
def in_worker(**_: Any) -> None:
    """Say that the worker consumes; its child is there already."""
    stamps.ready()


def prepare() -> None:
    """Leave no task in the queue; there is nothing to create."""
    app.control.purge()


def enqueue(jobs: int) -> None:
    """Send the tasks in pipelines of 1,000, the default of `Producer.batch`."""
    with app.producer_or_acquire() as producer, producer.batch():
        for _ in range(jobs):
            noop.apply_async(producer=producer)


def work() -> None:
    """Be a worker with one child until TERM."""
    app.worker_main(["worker", "--concurrency=1", f"--hostname={os.getpid()}@%h"])


if __name__ == "__main__":
    run(
        Peer(
            name="celery",
            settings=f"Redis, prefork pool of one child, acks_late, prefetch multiplier {prefetch},"
            " no result backend; producer.batch of 1,000",
            prepare=prepare,
            enqueue=enqueue,
            work=work,
        )
    )
