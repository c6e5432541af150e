"""Ronin's engine: shares jobs among equal workers through PostgreSQL rows alone.

Whoever writes a job needs these names, and no others of this package.
"""

from cluster.job import job, task
from cluster.run import Discard, RetryIn, Run, RunStopped
from cluster.store.tasks import enqueue

__all__ = ["Discard", "RetryIn", "Run", "RunStopped", "enqueue", "job", "task"]
