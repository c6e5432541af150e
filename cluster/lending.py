"""Lending: tasks for workers that speak HTTP only, under the same leases, tokens and endings.

Each claim has a lease of its own. Nobody can prove the death of a remote worker, so nothing but
silence ends a lease before its runs are over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from cluster.database import Pool
from cluster.ending import ending_of
from cluster.job import Catalogue, Job
from cluster.perform import Result
from cluster.run import Claim
from cluster.store import leases, looks, runs

_NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat brought.

    Attributes:
        lease_until: silent for longer, and the task is given to somebody else.
        cancelled: the task shall stop.
        late: a word with a later sequence was here before; this one changed nothing.
    """

    lease_until: datetime
    cancelled: bool
    late: bool


class StaleTokenError(Exception):
    """The token is not that of the attempt under way; nothing was changed."""


def claim(
    pool: Pool, name: str, kinds: Sequence[str], limit: int, lease_seconds: float
) -> list[Claim]:
    """Claim tasks for a remote worker; they share one lease.

    Dies before the answer has arrived: the lease runs out, and the tasks are due again.

    Args:
        pool: any.
        name: of the remote worker, for people.
        kinds: that it can perform.
        limit: tasks at most.
        lease_seconds: until the first heartbeat is due at the latest.
    """
    # A look first: it writes nothing, and most looks of who waits find nothing.
    look = looks.claim(pool, looks.Ask(_NOBODY, None, kinds, 0, 0, 0.0))
    if not look.limited and (look.wake_at is None or look.wake_at > look.now):
        return []
    with pool.connection() as connection, connection.transaction() as transaction:
        worker = leases.lend(connection, name, kinds, lease_seconds)
        ask = looks.Ask(worker, None, kinds, 0, limit, 0.0, limited=kinds)
        claims = looks.read(looks.send(connection, ask)).claims
        if not claims:
            raise psycopg.Rollback(transaction)
        return claims
    return []


def beat(pool: Pool, task: UUID, token: UUID, progress: float | None, sequence: int | None) -> Beat:
    """Renew the lease of an attempt, and write its progress.

    The lease first and then the run, as who takes over does, so that the two can't wait for each
    other. Taken over meanwhile: the lease is gone, and nothing is written.

    Args:
        pool: any.
        task: the run.
        token: of the attempt.
        progress: 0 to 1, or None to leave it as it is.
        sequence: grows with each word; a word that was overtaken changes nothing.

    Raises:
        StaleTokenError: it was taken over, or is over.
    """
    query = """
        WITH renewed AS (
            UPDATE worker w SET lease_until = now() + w.lease FROM run r
            WHERE r.id = %(task)s AND r.token = %(token)s AND w.id = r.worker_id
                AND (%(sequence)s::bigint IS NULL OR r.sequence < %(sequence)s)
            RETURNING w.lease_until
        ), told AS (
            UPDATE run r SET progress = coalesce(%(progress)s::real, r.progress),
                sequence = coalesce(%(sequence)s, r.sequence)
            FROM renewed WHERE r.id = %(task)s AND r.token = %(token)s
                AND (%(sequence)s::bigint IS NULL OR r.sequence < %(sequence)s)
        )
        SELECT coalesce((SELECT lease_until FROM renewed), w.lease_until) AS lease_until,
            r.start_by IS NOT DISTINCT FROM '-infinity' AS cancelled,
            coalesce(r.sequence >= %(sequence)s, false) AS late
        FROM run r JOIN worker w ON w.id = r.worker_id
        WHERE r.id = %(task)s AND r.token = %(token)s
            AND (EXISTS (SELECT FROM renewed) OR r.sequence >= %(sequence)s)
        """
    parameters = {
        "task": task,
        "token": token,
        "progress": None if progress is None else round(progress, 4),  # as `Run.progress` does
        "sequence": sequence,
    }
    with pool.connection() as connection:
        found = connection.cursor(row_factory=class_row(Beat)).execute(query, parameters).fetchone()
    if found is None:
        raise StaleTokenError
    return found


def report(pool: Pool, catalogue: Catalogue, task: UUID, token: UUID, result: Result) -> None:
    """Write how a remote attempt ended; said twice, it is written once.

    Args:
        pool: any.
        catalogue: for the kind's rule of retries.
        task: the run.
        token: of the attempt.
        result: how it ended.

    Raises:
        StaleTokenError: it was taken over before, or ended in another way.
    """
    held = runs.held(pool, task, token)
    if held:
        if held.cancelled and result.outcome != "completed":
            result = Result("cancelled", "cancelled")
        # A kind that this process does not know is ended by the usual rule.
        job = catalogue.get(held.claim.job) or Job(name=held.claim.job, function=_elsewhere)
        ending = ending_of(held.claim, job, result, held.claim.started_at)
        (ended,) = runs.finish(pool, [ending])
        leases.resign(pool, held.worker)
        if not ended.fenced:
            return
    if not runs.said_before(pool, task, token, result.outcome):
        raise StaleTokenError


def _elsewhere() -> None:
    """Stand for a function that only other processes know."""
