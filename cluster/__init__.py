"""Ronin's engine: shares jobs among equal workers through PostgreSQL rows alone.

A job needs these names and no others of this package.
"""

from cluster.job import job
from cluster.run import Run, RunStopped

__all__ = ["Run", "RunStopped", "job"]
