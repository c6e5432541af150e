"""Builders: jobs, claims and results for tests that need no database."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from cluster.job import Job
from cluster.run import Claim, Connection

NOW = datetime(2027, 6, 1, 12, tzinfo=UTC)


def nothing() -> None:
    """Do nothing."""


def a_job(**settings: Any) -> Job:
    """Return a job that fires every hour, and is otherwise as the settings say."""
    return Job(**{"name": "tick", "function": nothing, "schedule": "@hourly", **settings})


def a_claim(**fields: Any) -> Claim:
    """Return a first attempt of `tick` that is under way, and otherwise as the fields say."""
    defaults: dict[str, Any] = {
        "id": uuid4(),
        "job": "tick",
        "schedule": "@hourly",
        "timezone": "UTC",
        "due_at": NOW,
        "attempt": 1,
        "token": uuid4(),
        "fence": 1,
        "started_at": NOW,
        "failures": 0,
        "crashes": 0,
        "worker": "host:1",
        "name": None,
        "args": None,
        "max_retries": None,
        "checkpoint": None,
    }
    return Claim(**{**defaults, **fields})


def no_connection() -> AbstractContextManager[Connection]:
    """Stand where a run would borrow a connection; nobody here does."""
    raise AssertionError("this run borrows no connection")
