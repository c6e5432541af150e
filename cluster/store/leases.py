"""Leases: who is alive, and what becomes of the runs of those who are not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from psycopg import Connection
from psycopg.rows import class_row, scalar_row

from cluster.database import Pool
from cluster.process import Identity
from cluster.run import MAX_CRASHES


@dataclass(frozen=True, slots=True)
class Lost:
    """A run taken away from a worker that is no more."""

    run_id: UUID
    job: str
    attempt: int
    worker: str
    outcome: str


def register(
    pool: Pool,
    name: str,
    process: Identity,
    jobs: Iterable[str],
    lease_seconds: float,
    *,
    slots: int | None = None,
    copies: int = 1,
) -> UUID:
    """Take a lease under a new identity, and set the opening if the cluster is silent.

    Copies that start together begin together: runs open for claims a second after the last of
    them has registered, and at most five seconds after the first; while fewer are there than one
    instance starts, those five seconds are waited for. A worker that joins a cluster at work
    moves nothing. Nor does one that finds nobody there if both are younger than ten seconds, the
    last opening and the last departure in order: where workers come and go all the time, runs
    would never open.

    Args:
        pool: the engine's.
        name: `host:pid`, for people.
        process: who the process is.
        jobs: the names that its code knows.
        lease_seconds: how long its word counts.
        slots: runs that it performs at once, for people.
        copies: workers that its instance starts, itself included.
    """
    with pool.connection() as connection, connection.transaction():
        # Two at once: the second waits here, and its next statement sees the first one's lease.
        connection.execute("SELECT FROM opening FOR UPDATE")
        connection.execute(
            """
            UPDATE opening SET
                first_at = s.first_at,
                opens_at = least(s.first_at + interval '5 s', clock_timestamp()
                    + CASE WHEN alone THEN interval '5 s' ELSE interval '1 s' END)
            FROM (SELECT silent, present + 1 < %s AS alone,
                    CASE WHEN silent THEN clock_timestamp() ELSE first_at END AS first_at
                FROM opening CROSS JOIN LATERAL (SELECT count(*) AS present FROM worker
                    WHERE lease_until > now() AND NOT remote) w
                CROSS JOIN LATERAL (SELECT present = 0 AND least(left_at, opens_at)
                    < clock_timestamp() - interval '10 s' AS silent) q) s
            WHERE silent OR clock_timestamp() < opens_at
            """,
            (copies,),
        )
        return _insert(connection, name, process, jobs, lease_seconds, slots=slots, remote=False)


def lend(connection: Connection[Any], name: str, jobs: Iterable[str], lease_seconds: float) -> UUID:
    """Take a lease for one claim of a remote worker, in a transaction of the caller.

    Nobody can prove its death, so nothing but silence ends it.
    """
    nobody = Identity(None, 0, 0)
    return _insert(connection, name, nobody, jobs, lease_seconds, remote=True)


def _insert(
    connection: Connection[Any],
    name: str,
    process: Identity,
    jobs: Iterable[str],
    lease_seconds: float,
    *,
    slots: int | None = None,
    remote: bool,
) -> UUID:
    cursor = connection.cursor(row_factory=scalar_row)
    cursor.execute(
        """
        INSERT INTO worker (id, name, remote, host, pid, process_started, jobs, slots, lease,
            lease_until)
        VALUES (uuid7(), %(name)s, %(remote)s, %(host)s, %(pid)s, %(started)s, %(jobs)s, %(slots)s,
            make_interval(secs => %(lease)s), now() + make_interval(secs => %(lease)s))
        RETURNING id
        """,
        {
            "name": name,
            "remote": remote,
            "host": process.host,
            "pid": process.pid,
            "started": process.started,
            "jobs": list(jobs),
            "slots": slots,
            "lease": lease_seconds,
        },
    )
    worker: UUID = cursor.fetchone()  # type: ignore[assignment] # one row is returned
    return worker


def beat(pool: Pool, worker: UUID, held: Sequence[tuple[UUID, float | None]]) -> bool:
    """Renew the lease and write progress; False if the lease is gone: declared dead.

    Also gives back what the database says this worker holds and it does not know of: a claim
    whose answer was lost on the way, perhaps committed after its connection had broken. Nothing
    ran, so the attempt is not counted. A take-over at the same moment: whoever locks the row
    of `worker` first wins, the other finds it gone, or renewed.

    Args:
        pool: the engine's.
        worker: the identity.
        held: the token of each run that it knows of, and the fraction done if it said one.
    """
    query = """
        WITH renewed AS (
            UPDATE worker SET lease_until = now() + lease WHERE id = %(worker)s RETURNING id
        ), told AS (
            -- A row that a run's own transaction holds is left for the next beat: the lease
            -- must not wait for a job.
            UPDATE run SET progress = h.progress FROM (
                SELECT r.id, f.progress FROM run r
                CROSS JOIN LATERAL (SELECT (%(held)s::jsonb ->> r.token::text)::real) f (progress)
                WHERE r.worker_id = %(worker)s AND r.token IS NOT NULL
                    AND %(held)s::jsonb ? r.token::text
                    AND r.progress IS DISTINCT FROM f.progress
                FOR NO KEY UPDATE OF r SKIP LOCKED) h
            WHERE run.id = h.id
        ), given_back AS (
            UPDATE run SET token = NULL, fence = NULL, worker_id = NULL, worker = NULL,
                started_at = NULL, progress = NULL, attempt = attempt - 1,
                begun_at = CASE WHEN attempt > 1 THEN begun_at END
            WHERE worker_id = %(worker)s AND token IS NOT NULL
                AND NOT %(held)s::jsonb ? token::text
        )
        SELECT FROM renewed
        """
    # An object, in which a key is found without a look at all others: one walk through what the
    # worker holds, and through what it held since the last vacuum, and not one for each run.
    known = orjson.dumps({str(token): fraction for token, fraction in held}).decode()
    with pool.connection() as connection:
        return connection.execute(query, {"worker": worker, "held": known}).rowcount == 1


def settle(pool: Pool) -> None:
    """Give every lease its full length by the clock of the server as it is now.

    For a server that was restarted, promoted, or whose clock has jumped: leases were written by
    another clock. None runs out sooner than one lease from now, and none lasts longer than that
    unless it is renewed. Two at once: each does it, and the second moves `since` on by a moment,
    which makes nobody dead.
    """
    query = """
        WITH settled AS (
            UPDATE server SET started_at = pg_postmaster_start_time(), since = now()
        ), opened AS (
            -- No opening is further ahead than `register` sets it. One that seems so was set by a
            -- clock that was ahead, and would keep everything waiting until that time comes.
            UPDATE opening SET opens_at = now(), first_at = least(first_at, now()),
                left_at = least(left_at, now())
            WHERE opens_at > now() + interval '5 s'
        )
        UPDATE worker SET lease_until = now() + lease WHERE lease_until > now() + lease
        """
    with pool.connection() as connection:
        connection.execute(query)


def take_over(pool: Pool, proven: Sequence[UUID], *, by_lease: bool = True) -> list[Lost]:
    """Free the runs of workers that are dead by proof or by lease, and remove their leases.

    A database that was down makes nobody dead, nor does one that was promoted or whose clock has
    jumped: a lease can't run out sooner than one full lease after `settle`. Several at once: each
    dead worker is taken by one. The dead one's last statement may commit beside this one: a claim
    holds the row of `worker`, so it is skipped and found again at the next look; a claim that
    committed a moment too late for our snapshot leaves a run without a lease, which `stranded`
    finds at the next look. A finish holds the row of `run`, we wait for it, and the token tells.
    What ended and what is due again have the same time, so the history shows no overlap.

    Args:
        pool: the engine's.
        proven: identities whose processes are known to exist no more.
        by_lease: whether those count as dead, too, whose lease has run out.
    """
    query = """
        WITH dead AS MATERIALIZED (
            SELECT w.id, w.leaving FROM worker w CROSS JOIN server s
            WHERE w.id = ANY (%(proven)s)
                OR %(by_lease)s AND greatest(w.lease_until, s.since + w.lease) < now()
                    AND s.started_at = pg_postmaster_start_time()
            ORDER BY w.id FOR UPDATE OF w SKIP LOCKED
        ), removed AS (
            DELETE FROM worker WHERE id IN (SELECT id FROM dead)
        ), stranded AS MATERIALIZED (
            SELECT r.id, r.token, coalesce(d.leaving, false) AS leaving,
                coalesce(w.remote, false) AS remote
            FROM run r LEFT JOIN worker w ON w.id = r.worker_id LEFT JOIN dead d ON d.id = w.id
            WHERE r.token IS NOT NULL AND (w.id IS NULL OR d.id IS NOT NULL)
        ), lost AS MATERIALIZED (
            -- The old token again: the row may have changed hands since the snapshot.
            SELECT r.*, s.leaving,
                CASE WHEN s.leaving THEN 'the worker left before the run had ended'
                    ELSE 'the worker died' END AS reason,
                -- Any run of a dead worker may be to blame, so here none gets the last blame:
                -- with one death left it is performed apart. A remote worker is not asked to.
                CASE WHEN s.leaving THEN r.crashes
                    WHEN s.remote THEN r.crashes + 1
                    ELSE least(r.crashes + 1, %(most)s - 1) END AS blame
            FROM run r JOIN stranded s ON s.id = r.id AND s.token = r.token
            ORDER BY r.id FOR UPDATE OF r
        ), freed AS (
            UPDATE run r SET token = NULL, fence = NULL, worker_id = NULL, worker = NULL,
                started_at = NULL, progress = NULL, not_before = now(), crashes = lost.blame,
                error = lost.reason,
                start_by = CASE WHEN r.start_by = '-infinity' THEN r.start_by END
            FROM lost WHERE r.id = lost.id AND lost.blame < %(most)s
        ), parked AS (
            DELETE FROM run r USING lost WHERE r.id = lost.id AND lost.blame >= %(most)s
        )
        INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
            finished_at, outcome, error, closing, name, args, priority, max_retries, failures)
        SELECT id, job, attempt, token, fence, worker, due_at, started_at, now(),
            CASE WHEN leaving THEN 'interrupted' ELSE 'crashed' END,
            CASE WHEN last THEN reason || '; given up after ' || blame || ' deaths'
                ELSE reason END,
            last, CASE WHEN last THEN name END, CASE WHEN last THEN args END,
            CASE WHEN last THEN priority END, CASE WHEN last THEN max_retries END,
            CASE WHEN last THEN failures END
        FROM (SELECT *, blame >= %(most)s AS last FROM lost) l
        RETURNING run_id, job, attempt, worker, outcome
        """
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=class_row(Lost))
        parameters = {"proven": list(proven), "by_lease": by_lease, "most": MAX_CRASHES}
        return cursor.execute(query, parameters).fetchall()


def leave(pool: Pool, worker: UUID) -> None:
    """Say that this worker has been told to end: what it can't finish is interrupted."""
    with pool.connection() as connection:
        connection.execute("UPDATE worker SET leaving = true WHERE id = %s", (worker,))


def resign(pool: Pool, worker: UUID) -> bool:
    """Give the lease back; False if runs are still held, which proof of death then frees."""
    query = """
        WITH left_ AS (
            DELETE FROM worker w WHERE w.id = %s AND NOT EXISTS (
                SELECT FROM run r WHERE r.worker_id = w.id AND r.token IS NOT NULL)
            RETURNING remote
        ), noted AS (
            UPDATE opening SET left_at = now() FROM left_ WHERE NOT remote
        )
        SELECT FROM left_
        """
    with pool.connection() as connection:
        return connection.execute(query, (worker,)).rowcount == 1
