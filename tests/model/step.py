"""Steps: an act at work on the store, and on the model."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, LiteralString, TypeVar
from uuid import UUID

import psycopg

from cluster.database import Pool
from tests.model.world import Past, Waiting, World

T = TypeVar("T")


class Seen:
    """The database after an act, looked at when somebody asks."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @cached_property
    def _found(self) -> list[list[tuple[Any, ...]]]:
        with self._connection.pipeline():
            cursors = [
                self._connection.execute(text) for text in (_RUNS, _LEASES, _HISTORY, _OPENING)
            ]
            return [cursor.fetchall() for cursor in cursors]

    @cached_property
    def runs(self) -> dict[UUID, Waiting]:
        """The rows of `run`."""
        return {row[0]: Waiting(*row) for row in self._found[0]}

    @cached_property
    def leases(self) -> dict[UUID, tuple[datetime, bool, bool]]:
        """Until when, whether leaving, whether remote."""
        return {row[0]: row[1:] for row in self._found[1]}

    @cached_property
    def history(self) -> Counter[Past]:
        """The rows of `history`."""
        return Counter(Past(*row) for row in self._found[2])

    @cached_property
    def opens_at(self) -> datetime | None:
        """When runs open for claims; None if nobody has ever registered."""
        found: datetime | None = self._found[3][0][0]
        return found

    def firing(self, job: str) -> UUID | None:
        """Return the id of a job's run."""
        return next((r.id for r in self.runs.values() if r.scheduled and r.job == job), None)


_RUNS: LiteralString = """
    SELECT id, job, scheduled, due_at, not_before, priority, extract(epoch FROM spread)::float8,
        nullif(start_by, '-infinity'), start_by IS NOT DISTINCT FROM '-infinity', attempt, failures,
        crashes, max_retries, token, fence, worker_id, started_at, progress, sequence,
        checkpoint::text
    FROM run
    """
_LEASES: LiteralString = "SELECT id, lease_until, leaving, remote FROM worker"
_OPENING: LiteralString = "SELECT nullif(opens_at, '-infinity') FROM opening"
_HISTORY: LiteralString = """
    SELECT CASE WHEN error NOT IN ('the run before was under way',
            'nothing had started the run before') OR error IS NULL THEN run_id END,
        job, attempt, token, fence, due_at, started_at, finished_at, outcome, closing, priority,
        max_retries, failures
    FROM history
    """


@dataclass(frozen=True)
class Step:
    """An act at work.

    Attributes:
        call: does it; what it returns goes to `follow`.
        follow: does the same to the model, and checks what was returned. Its last argument is
            whether nothing else happened at that moment, so that nothing was passed by.
        actor: the place of the process whose act it is.
        lost: whether that process goes on without the answer, so that it may act meanwhile.
        waits: whether it may wait for somebody else; a claim alone never does.
    """

    call: Callable[[Pool], Any]
    follow: Callable[[World, Any, Seen, bool], None]
    actor: int | None = None
    lost: bool = False
    waits: bool = True


def pick(among: Sequence[T], place: int) -> T | None:
    """Return one of them, if there are any."""
    return among[place % len(among)] if among else None
