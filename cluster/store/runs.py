"""Runs: claimed, ended, given back."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import orjson
from psycopg.rows import class_row, dict_row

from cluster.database import Pool
from cluster.ending import Ending
from cluster.process import Identity
from cluster.run import Claim


@dataclass(frozen=True, slots=True)
class Peer:
    """A lease of this host, which its processes can judge, or one that has run out."""

    id: UUID
    process: Identity
    expired: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the database brought.

    Attributes:
        now: the database's clock as the statement began.
        claims: runs that are this worker's from now on.
        wake_at: when the next waiting run opens for this worker, if one is foreseen.
        peers: see `Peer`.
        stranded: whether a run is held by somebody without a lease.
    """

    now: datetime
    claims: list[Claim]
    wake_at: datetime | None
    peers: list[Peer]
    stranded: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of an `Ending`.

    Attributes:
        fenced: the attempt was not this worker's any more; nothing was changed.
        schedule: the job's as it is now; None if fenced.
    """

    fenced: bool
    schedule: str | None


def claim(
    pool: Pool,
    worker: UUID,
    host: str | None,
    jobs: Sequence[str],
    load: int,
    free: int,
    phase: float,
) -> Look:
    """Claim what is due and open for this worker, and look around, in one statement.

    The spread rule (see `cluster.spread`) stands twice: for a worker that claims one run more,
    as a filter, and for the k-th of a batch, once the batch is known. Two at once: SKIP LOCKED
    gives each row to one. Dies before the answer is there: the runs are held by a worker that
    knows nothing of them, and its next beat or its death frees them.

    Args:
        pool: the engine's.
        worker: the identity.
        host: of this process, to find peers that it can judge.
        jobs: the names this worker's code knows; others are left to others.
        load: runs it has under way.
        free: runs it may claim at most.
        phase: the part of a slot that it waits for its equals, see `cluster.spread`.
    """
    parameters = {
        "worker": worker,
        "host": host,
        "jobs": list(jobs),
        "load": load,
        "free": free,
        "phase": phase,
    }
    with pool.connection() as connection:
        rows = connection.cursor(row_factory=dict_row).execute(_CLAIM, parameters).fetchall()
    first = rows[0]
    return Look(
        now=first["now"],
        claims=[_claim(row) for row in rows if row["id"] is not None],
        wake_at=first["wake_at"],
        peers=[_peer(peer) for peer in first["peers"] or ()],
        stranded=first["stranded"],
    )


_CLAIM = """
    WITH candidate AS MATERIALIZED (
        SELECT r.id, r.priority, r.not_before, r.spread, j.schedule, j.timezone,
            greatest(r.not_before, o.opens_at) + %(phase)s::float8 * r.spread AS opens_at
        FROM run r JOIN job j ON j.name = r.job CROSS JOIN opening o
        WHERE r.token IS NULL AND r.not_before <= now()
            AND r.job = ANY (%(jobs)s) AND NOT j.paused
            AND greatest(r.not_before, o.opens_at)
                + (%(load)s::integer + %(phase)s::float8) * r.spread <= now()
        ORDER BY r.priority DESC, r.not_before, r.id
        LIMIT %(free)s
        FOR UPDATE OF r SKIP LOCKED
    ), batch AS (
        SELECT *, %(load)s::integer - 1
            + row_number() OVER (ORDER BY priority DESC, not_before, id) AS load
        FROM candidate
    ), claimed AS (
        UPDATE run r SET token = gen_random_uuid(), fence = nextval('fence'),
            worker_id = me.id, worker = me.name, started_at = now(), progress = NULL,
            attempt = r.attempt + 1
        FROM batch b
            -- Held to the end, so that nobody who was declared dead claims; looked up for each
            -- row of the batch, so that an idle look writes nothing.
            JOIN LATERAL (SELECT w.id, w.name FROM worker w
                WHERE w.id = %(worker)s AND w.lease_until > now() AND b.id IS NOT NULL
                FOR KEY SHARE) me ON true
        WHERE r.id = b.id AND b.opens_at + b.load * b.spread <= now()
        RETURNING r.*, b.schedule, b.timezone
    )
    SELECT now() AS now,
        (SELECT min(greatest(r.not_before, o.opens_at)
                + (%(load)s::integer + (SELECT count(*) FROM claimed) + %(phase)s::float8)
                * r.spread)
            FROM run r JOIN job j ON j.name = r.job CROSS JOIN opening o
            WHERE r.token IS NULL AND r.job = ANY (%(jobs)s) AND NOT j.paused
                AND r.id NOT IN (SELECT id FROM claimed)) AS wake_at,
        (SELECT jsonb_agg(jsonb_build_array(id, host, pid, process_started, expired)) FROM (
            SELECT *, greatest(lease_until, pg_postmaster_start_time() + lease) < now() AS expired
            FROM worker WHERE id <> %(worker)s) w
            WHERE expired OR host = %(host)s) AS peers,
        EXISTS (SELECT FROM run r WHERE r.token IS NOT NULL
            AND NOT EXISTS (SELECT FROM worker w WHERE w.id = r.worker_id)) AS stranded,
        c.id, c.job, c.schedule, c.timezone, c.due_at, c.attempt, c.token, c.fence, c.started_at,
        c.failures, c.crashes
    FROM (VALUES (1)) AS one LEFT JOIN claimed c ON true
    """


def finish(pool: Pool, endings: Sequence[Ending]) -> list[Ended]:
    """Write how attempts ended: history, and the run's next attempt, next firing, or its end.

    Guarded by the token: an attempt that was taken away changes nothing, and is recorded as
    fenced. A finish whose answer was lost may come again: it is found in the history and not
    written twice. The job is locked against `jobs.change`, so that a schedule which changes at
    this moment is either seen here or sees the run that is planned here.

    Returns:
        One answer for each ending, in their order.
    """
    rows = [{"position": n, **asdict(ending)} for n, ending in enumerate(endings)]
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=class_row(Ended))
        written = cursor.execute(_FINISH, (json(rows),)).fetchall()
        late = [row for row, ended in zip(rows, written, strict=True) if ended.fenced]
        if late:
            # A statement of its own, because only a new snapshot surely shows a twin of this
            # finish that the one above has waited for.
            connection.execute(_REFUSED, (json(late),))
    return written


_ENDING: LiteralString = """
    SELECT * FROM jsonb_to_recordset(%s) AS e (position integer, run_id uuid, job text,
        attempt integer, token uuid, fence bigint, worker text, due_at timestamptz,
        started_at timestamptz, outcome text, error text, traceback text, failures integer,
        retry_in float8, next_at timestamptz, priority smallint, spread float8)
    """

_FINISH: LiteralString = f"""
    WITH ending AS MATERIALIZED ({_ENDING}), held AS MATERIALIZED (
        SELECT e.*, j.schedule AS now_schedule FROM ending e
            JOIN run r ON r.id = e.run_id AND r.token = e.token
            JOIN job j ON j.name = r.job
        -- In the order of `jobs.declare`, so that the two can't wait for each other.
        ORDER BY r.job, r.id FOR UPDATE OF r FOR SHARE OF j
    ), again AS (
        UPDATE run r SET token = NULL, fence = NULL, worker_id = NULL, worker = NULL,
            started_at = NULL, progress = NULL, failures = h.failures,
            not_before = now() + make_interval(secs => h.retry_in)
        FROM held h WHERE r.id = h.run_id AND h.retry_in IS NOT NULL
    ), next AS (
        UPDATE run r SET id = uuid7(), token = NULL, fence = NULL, worker_id = NULL,
            worker = NULL, started_at = NULL, progress = NULL, attempt = 0, failures = 0,
            crashes = 0, due_at = h.next_at, not_before = greatest(h.next_at, now()),
            priority = h.priority, spread = make_interval(secs => h.spread)
        FROM held h WHERE r.id = h.run_id AND h.retry_in IS NULL AND h.next_at IS NOT NULL
    ), over AS (
        DELETE FROM run r USING held h
        WHERE r.id = h.run_id AND h.retry_in IS NULL AND h.next_at IS NULL
    ), recorded AS (
        INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
            finished_at, outcome, error, traceback)
        SELECT run_id, job, attempt, token, fence, worker, due_at, started_at, now(), outcome,
            error, traceback
        FROM held
    )
    SELECT h.run_id IS NULL AS fenced, h.now_schedule AS schedule
    FROM ending e LEFT JOIN held h ON h.run_id = e.run_id AND h.token = e.token
    ORDER BY e.position
    """

_REFUSED: LiteralString = f"""
    WITH ending AS MATERIALIZED ({_ENDING})
    INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
        finished_at, outcome, error)
    SELECT run_id, job, attempt, token, fence, worker, due_at, started_at, now(), 'fenced',
        'a late result was refused: ' || outcome
    FROM ending e
    WHERE NOT EXISTS (SELECT FROM history h
        WHERE h.run_id = e.run_id AND h.attempt = e.attempt AND h.token = e.token
            AND h.outcome IN (e.outcome, 'fenced')
            AND h.finished_at > uuid7_time(e.run_id) - interval '1 day')
    """


def json(value: Any) -> str:
    """Return rows as the text of a jsonb parameter; a text in them must not hold NUL."""
    return orjson.dumps(value).decode()


def _claim(row: dict[str, Any]) -> Claim:
    return Claim(**{field: row[field] for field in Claim.__slots__})


def _peer(row: tuple[str, str | None, int, int, bool]) -> Peer:
    identity, host, pid, started, expired = row
    return Peer(UUID(identity), Identity(host, pid, started), expired)
