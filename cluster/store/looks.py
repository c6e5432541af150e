"""Looks: what a worker sees of the database at once, and claims while it looks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from psycopg import Connection, Cursor, RawCursor
from psycopg.pq import Format
from psycopg.rows import tuple_row

from cluster.database import Pool
from cluster.process import Identity
from cluster.run import Claim
from cluster.spread import OPENING_SLOTS

AT_ONCE = True
"""Whether a statement that goes through a pipeline is prepared at its first use. At a later one,
psycopg (3.3.9) takes it for prepared although that has failed, and it fails in this session for
ever: the worker would hold its lease, and claim nothing."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A lease of this host, which its processes can judge, or one that has run out."""

    id: UUID
    process: Identity
    expired: bool


@dataclass(frozen=True, slots=True)
class Place:
    """A place among the waiting runs: that of the last one that a look claimed."""

    job: str
    priority: int
    not_before: datetime


@dataclass(frozen=True, slots=True)
class Ask:
    """Who looks, and what it may claim.

    Attributes:
        worker: the identity.
        host: of this process, to find peers that it can judge.
        jobs: the names this worker's code knows; others are left to others.
        load: runs with a spread that it has under way. Tasks come and go, and don't count.
        free: runs it may claim at most.
        phase: the part of a slot that it waits for its equals, see `cluster.spread`.
        limited: jobs with a limit that the last look found due; they take one more statement.
        around: whether to look at the others as well: `Look.peers` and `Look.stranded`.
        after: to claim what comes next after this place, and see nothing else but `Look.now`, for
            whom the last look left work behind a moment ago. The runs of that job must have no
            spread and no limit, or nothing is claimed; nor is it while something more urgent is due
            that has no limit.
    """

    worker: UUID
    host: str | None
    jobs: Sequence[str]
    load: int
    free: int
    phase: float
    limited: Sequence[str] = ()
    around: bool = True
    after: Place | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the database brought.

    Attributes:
        now: the database's clock as the statement began.
        claims: runs that are this worker's from now on.
        delays: of each claim, the seconds from when it was due, and the runs open, to its start.
        wake_at: when the next waiting run opens for this worker, if one is foreseen; of those with
            a spread alone if as much was claimed as was free. After a look at the next runs, now.
        peers: see `Peer`.
        stranded: whether a run is held by somebody without a lease.
        limited: jobs with a limit that are due and have room, for the next `Ask`.
        cancelled: tokens of attempts under way here that shall stop.
        unwanted: whether a waiting run was cancelled, or is past its deadline; see `drop`.
        unsettled: whether this is not the server that leases were written at; see `settle`.
        last: where the claims end.
    """

    now: datetime
    claims: list[Claim]
    delays: list[float]
    wake_at: datetime | None
    peers: list[Peer]
    stranded: bool
    limited: list[str]
    cancelled: list[UUID]
    unwanted: bool
    unsettled: bool
    last: Place | None


def claim(pool: Pool, ask: Ask) -> Look:
    """Claim what is due and open for this worker, and look around, in one statement.

    Two at once: SKIP LOCKED gives each row to one. The spread rule (see `cluster.spread`) stands
    three times: for a worker that claims one run more, as a filter; turned round, for how many it
    may claim at most, and so lock; and for the k-th of a batch, once the batch is known. Of one
    priority what has a spread comes first: were it behind a backlog of tasks, it would be open to
    everybody by the time that its turn comes, and the first one would take it all. Jobs with a
    limit are claimed under a lock of their own, see `_LOCK`.
    Dies before the answer is there: what was claimed is held by a worker that knows nothing of
    it, and its next beat or its death frees it.
    """
    with pool.connection() as connection, connection.transaction():
        return read(send(connection, ask))


def send(connection: Connection[Any], ask: Ask) -> Cursor[tuple[Any, ...]]:
    """Look on a connection, with `ask.limited` in a transaction of the caller; see `claim`."""
    locked: list[str] = []
    if ask.limited:
        locked = [row[0] for row in connection.execute(_LOCK, (list(ask.limited),)).fetchall()]
    parameters = {
        "worker": ask.worker,
        "host": ask.host,
        "jobs": list(ask.jobs),
        "load": ask.load,
        "free": ask.free,
        "phase": ask.phase,
        "around": ask.around,
        "locked": locked,
        "opening_slots": OPENING_SLOTS,
    }
    query, names = _numbered(_WHOLE)
    if ask.after:
        query, names = _numbered(_NEXT)
        parameters |= {name: getattr(ask.after, name) for name in Place.__slots__}
    # Raw, for psycopg would read so long a statement anew each time, in search of parameters;
    # binary, for writing and reading times and UUIDs as text is a sixth of it all.
    cursor = RawCursor(connection, row_factory=tuple_row)
    cursor.format = Format.BINARY
    return cursor.execute(query, [parameters[name] for name in names], prepare=AT_ONCE)


def read(looked: Cursor[tuple[Any, ...]]) -> Look:
    """Return what a look has brought."""
    rows = looked.fetchall()
    claims = [row for row in rows if row[0] is not None]
    around = next(row for row in rows if row[0] is None)
    seen = dict(zip(_COLUMNS, around[_KEPT_COLUMNS:], strict=True))
    return Look(
        now=seen["now"],
        claims=[Claim._make(row[:_CLAIM]) for row in claims],
        delays=[row[_CLAIM] for row in claims],
        wake_at=seen["wake_at"],
        peers=[_peer(peer) for peer in seen["peers"] or ()],
        stranded=seen["stranded"],
        limited=seen["limited"] or [],
        cancelled=seen["cancelled"] or [],
        unwanted=seen["unwanted"],
        unsettled=seen["unsettled"],
        last=Place(claims[-1][1], *claims[-1][_CLAIM + 1 : _KEPT_COLUMNS]) if claims else None,
    )


_LOCK = """
    SELECT name FROM job WHERE name = ANY (%s) AND max_running IS NOT NULL
        AND pg_try_advisory_xact_lock(hashtextextended('ronin limit ' || name, 0))
    """
"""Who holds this lock is the only one to claim runs of the job until it commits, and its next
statement sees every claim before it: so the count of runs under way is exact. Nobody waits: who
does not get it leaves the job to the one who has it, and finds it again at the next look."""

_ME = """
    me AS MATERIALIZED (
        -- Held to the end, so that nobody who was declared dead claims; not if there is nothing
        -- to claim, so that an idle look writes nothing. Who takes over holds it: then we claim
        -- nothing, and never wait for each other.
        SELECT w.id, w.name FROM worker w
        WHERE w.id = %(worker)s AND w.lease_until > now() AND EXISTS (SELECT FROM candidate)
        FOR KEY SHARE SKIP LOCKED
    )
    """

_TAKEN = """
    -- 90 bits of chance for a batch, and a number in it: to draw anew for each costs 5 us.
    token = encode(substring(uuid_send((SELECT gen_random_uuid())) FOR 12)
        || int4send(b.number::integer), 'hex')::uuid,
    fence = nextval('fence'), worker_id = me.id, worker = me.name, progress = NULL, sequence = 0,
    -- Under a lock of a limit the transaction is older than the ends that it waited for.
    started_at = statement_timestamp(), attempt = r.attempt + 1,
    begun_at = coalesce(r.begun_at, statement_timestamp())
    """

_KEPT = """
    r.id, r.job, CASE WHEN r.scheduled THEN b.schedule END AS schedule, b.timezone, r.due_at,
    r.attempt, r.token, r.fence, r.started_at, r.failures, r.crashes, r.worker, r.name,
    r.args::text AS args, r.max_retries, r.checkpoint::text AS checkpoint,
    extract(epoch FROM r.started_at - b.due_since)::float8 AS delay, r.priority,
    greatest(r.not_before, 'epoch') AS not_before -- for Python knows no -infinity
    """
"""Of a run that is claimed: the fields of a `Claim` in their order, the delay, and the place. A
task of what has become a job by now stays a task."""

_WHOLE = f"""
    WITH RECURSIVE known AS MATERIALIZED (
        SELECT j.name, j.schedule, j.timezone,
            j.max_running IS NULL OR j.name = ANY (%(locked)s) AS claimable,
            CASE WHEN j.max_running IS NULL THEN %(free)s::bigint ELSE j.max_running - (
                SELECT count(*) FROM run r
                WHERE r.job = j.name AND r.token IS NOT NULL) END AS room
        FROM job j WHERE j.name = ANY (%(jobs)s) AND NOT j.paused
    ), level AS (
        -- The priorities that a job has runs of, one index probe each.
        SELECT k.*, (SELECT max(r.priority) FROM run r
            WHERE r.job = k.name AND r.token IS NULL) AS priority
        FROM known k WHERE k.room > 0 OR k.claimable
        UNION ALL
        SELECT l.name, l.schedule, l.timezone, l.claimable, l.room, (SELECT max(r.priority)
            FROM run r WHERE r.job = l.name AND r.token IS NULL AND r.priority < l.priority)
        FROM level l WHERE l.priority IS NOT NULL
    ), head AS MATERIALIZED (
        SELECT l.*, h.not_before, o.opens_at, d.due, d.due AND l.claimable AND l.room > 0 AS ready,
            extract(epoch FROM h.spread * CASE WHEN h.not_before < o.opens_at
                THEN %(opening_slots)s::integer ELSE 1 END)::float8 AS slot
        FROM level l CROSS JOIN opening o CROSS JOIN LATERAL (
            SELECT r.not_before, r.spread FROM run r
            WHERE r.job = l.name AND r.priority = l.priority AND r.token IS NULL
            ORDER BY r.not_before, r.id LIMIT 1) h
        CROSS JOIN LATERAL (SELECT greatest(h.not_before, o.opens_at) <= now()) d(due)
    ), most AS MATERIALIZED (
        -- What is locked is locked until the commit, out of everybody's sight: so of what has a
        -- spread no more than is open to us. For what is about to open the others leave room, or
        -- tasks that take long would have all slots by then.
        SELECT slot > 0 AS shared, least(%(free)s::float8, max(CASE WHEN slot > 0 THEN greatest(1,
            floor((extract(epoch FROM now()) - extract(epoch FROM greatest(not_before, opens_at)))
                / slot - %(load)s::integer - %(phase)s::float8 + 1))
            ELSE greatest(0, %(free)s::bigint - (SELECT count(*) FROM head f
                WHERE f.ready AND f.slot > 0 AND f.priority >= (
                    SELECT max(t.priority) FROM head t WHERE t.ready AND t.slot = 0)))
            END)) AS runs
        FROM head WHERE ready GROUP BY 1
    ), candidate AS MATERIALIZED (
        -- From level to level until there are enough; of one priority the longest due comes first.
        SELECT l.* FROM most m CROSS JOIN LATERAL (
            SELECT c.*, m.shared, h.name, h.schedule, h.timezone, h.room,
                greatest(c.not_before, h.opens_at) AS due_since
            FROM (SELECT * FROM head
                WHERE ready AND (slot > 0) = m.shared
                ORDER BY priority DESC, not_before) h
            CROSS JOIN LATERAL (
                SELECT r.id, r.priority, r.not_before, s.slot
                FROM run r CROSS JOIN LATERAL (SELECT r.spread * CASE WHEN
                    r.not_before < h.opens_at THEN %(opening_slots)s::integer ELSE 1 END) s(slot)
                WHERE r.job = h.name AND r.priority = h.priority AND r.token IS NULL
                    AND r.not_before <= now() AND (r.start_by IS NULL OR r.start_by > now())
                    AND (r.spread = '0' OR greatest(r.not_before, h.opens_at)
                        + (%(load)s::integer + %(phase)s::float8) * s.slot <= now())
                ORDER BY r.not_before, r.id
                LIMIT h.room
                FOR UPDATE SKIP LOCKED) c
            LIMIT m.runs) l
    ), batch AS (
        SELECT *, row_number() OVER whole AS number,
            count(*) FILTER (WHERE shared) OVER whole AS turn,
            row_number() OVER (PARTITION BY name ORDER BY priority DESC, not_before, id) AS place
        FROM candidate WINDOW whole AS (
            ORDER BY priority DESC, shared DESC, not_before, id ROWS UNBOUNDED PRECEDING)
    ), {_ME}, claimed AS (
        UPDATE run r SET {_TAKEN}
        FROM batch b CROSS JOIN me
        WHERE r.id = b.id AND b.number <= %(free)s AND b.place <= b.room
            AND b.due_since + (%(load)s::integer - 1 + b.turn + %(phase)s::float8) * b.slot
                <= now()
        RETURNING {_KEPT}
    )
    SELECT claimed.*, seen.* FROM claimed FULL JOIN (SELECT now() AS now,
        (SELECT min(least(now() + interval '1 day', greatest(n.not_before, h.opens_at)
                + (%(load)s::integer + %(phase)s::float8 + (SELECT count(*) FILTER (
                    WHERE shared AND id IN (SELECT id FROM claimed)) FROM candidate)) * n.spread
                * CASE WHEN n.not_before < h.opens_at THEN %(opening_slots)s::integer ELSE 1 END))
            FROM head h CROSS JOIN LATERAL (
                SELECT r.not_before, r.spread FROM run r
                WHERE r.job = h.name AND r.priority = h.priority AND r.token IS NULL
                    AND r.id NOT IN (SELECT id FROM claimed)
                ORDER BY r.not_before, r.id LIMIT 1) n
            WHERE (h.claimable OR NOT h.due) AND (h.slot > 0 OR %(free)s = 0
                OR %(free)s > (SELECT count(*) FROM claimed)
                AND coalesce((SELECT runs FROM most WHERE NOT shared), %(free)s) > (
                    SELECT count(*) FROM candidate
                    WHERE NOT shared AND id IN (SELECT id FROM claimed)))) AS wake_at,
        CASE WHEN %(around)s THEN (
            SELECT jsonb_agg(jsonb_build_array(id, host, pid, process_started, expired)) FROM (
            SELECT w.*, greatest(w.lease_until, s.since + w.lease) < now()
                AND s.started_at = pg_postmaster_start_time() AS expired
            FROM worker w CROSS JOIN server s WHERE w.id <> %(worker)s) w
            WHERE expired OR host = %(host)s) END AS peers,
        %(around)s AND EXISTS (SELECT FROM run r WHERE r.token IS NOT NULL
            AND NOT EXISTS (SELECT FROM worker w WHERE w.id = r.worker_id)) AS stranded,
        (SELECT array_agg(DISTINCT h.name) FROM head h WHERE h.due AND NOT h.claimable) AS limited,
        (SELECT array_agg(r.token) FROM run r WHERE r.worker_id = %(worker)s
            AND r.token IS NOT NULL AND r.start_by = '-infinity') AS cancelled,
        EXISTS (SELECT FROM run r WHERE r.token IS NULL AND r.start_by <= now()) AS unwanted,
        (SELECT s.started_at <> pg_postmaster_start_time() FROM server s) AS unsettled
    ) seen ON false
    """

_NEXT = f"""
    WITH RECURSIVE urgent AS (
        -- The higher priorities that a job has runs of, one index probe each; most have none.
        SELECT n.name, (SELECT max(r.priority) FROM run r WHERE r.job = n.name
            AND r.token IS NULL AND r.priority > %(priority)s) AS priority
        FROM job n WHERE n.name = ANY (%(jobs)s) AND NOT n.paused AND n.max_running IS NULL
        UNION ALL
        SELECT u.name, (SELECT max(r.priority) FROM run r WHERE r.job = u.name
            AND r.token IS NULL AND r.priority > %(priority)s AND r.priority < u.priority)
        FROM urgent u WHERE u.priority IS NOT NULL
    ), candidate AS MATERIALIZED (
        -- From the place on, so that the index is not walked through what was claimed before it;
        -- what waits before the place once more is found by the next whole look.
        SELECT r.id, j.schedule, j.timezone, greatest(r.not_before, o.opens_at) AS due_since,
            row_number() OVER () AS number
        FROM opening o CROSS JOIN job j CROSS JOIN LATERAL (
            SELECT r.id, r.not_before FROM run r
            WHERE r.job = %(job)s AND r.priority = %(priority)s AND r.token IS NULL
                AND r.not_before BETWEEN %(not_before)s AND now()
                AND (r.start_by IS NULL OR r.start_by > now()) AND r.spread = '0'
            ORDER BY r.not_before, r.id
            LIMIT %(free)s
            FOR UPDATE SKIP LOCKED) r
        WHERE o.opens_at <= now() AND j.name = %(job)s AND NOT j.paused AND j.max_running IS NULL
            AND NOT EXISTS (SELECT FROM urgent u CROSS JOIN LATERAL (
                SELECT r.not_before FROM run r
                WHERE r.job = u.name AND r.priority = u.priority AND r.token IS NULL
                ORDER BY r.not_before, r.id LIMIT 1) h WHERE h.not_before <= now())
    ), {_ME}, claimed AS (
        UPDATE run r SET {_TAKEN}
        FROM candidate b CROSS JOIN me
        WHERE r.id = b.id
        RETURNING {_KEPT}
    )
    SELECT claimed.*, seen.* FROM claimed FULL JOIN (SELECT now() AS now, now() AS wake_at,
        NULL AS peers, false AS stranded, NULL AS limited, NULL AS cancelled, false AS unwanted,
        false AS unsettled) seen ON false
    """
"""A third of what the whole costs, for a batch of fifty."""

_COLUMNS = ["now", "wake_at", "peers", "stranded", "limited", "cancelled", "unwanted", "unsettled"]
"""Of what was seen around, in a row of its own after those of the claims, which have `_KEPT`:
to repeat them in each row costs a microsecond a claim."""


_CLAIM = len(Claim._fields)
_KEPT_COLUMNS = _CLAIM + 3  # the delay, and the place


@cache
def _numbered(query: str) -> tuple[str, list[str]]:
    """Return a statement with numbers in place of the names of its parameters, and the names."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", query)))
    return re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", query), names


def claim_of(row: dict[str, Any]) -> Claim:
    """Return the claim that stands in a row."""
    return Claim._make(row[field] for field in Claim._fields)


def _peer(row: tuple[str, str | None, int, int, bool]) -> Peer:
    identity, host, pid, started, expired = row
    return Peer(UUID(identity), Identity(host, pid, started), expired)
