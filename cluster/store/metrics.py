"""Metrics: the figures of the whole cluster, read at one moment from the rows alone.

However long queues and history are: each statement walks an index and stops after what it counts.
"""

from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import dict_row

from cluster.database import Pool
from cluster.store import looks
from cluster.store.views import Row

MOST = 10_000
"""Runs that wait are counted up to here, all jobs together; see `figures`."""
LAST = 20
"""Attempts of each job that are looked at for its last success and its failures in a row."""
MOST_PARKED = 10_000
"""Parked tasks are counted up to here."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The cluster at one moment.

    Attributes:
        moment: the database's clock and what there is one of.
        workers: those who speak SQL, one for each name, with what is left of their leases.
        jobs: jobs and kinds, with their runs, their last attempts and, of jobs, the next firing.
        totals: attempts and seconds by job, and by `started` or the outcome; they only grow.
    """

    moment: Row
    workers: list[Row]
    jobs: list[Row]
    totals: list[Row]


def figures(pool: Pool, most: int = MOST) -> Figures:
    """Read it all in one snapshot.

    Args:
        pool: any.
        most: waiting runs that are counted, shared out among the jobs that have some.

    Raises:
        psycopg.OperationalError: the database does not answer.
    """
    with pool.connection() as connection, connection.pipeline(), connection.transaction():
        # Prepared at the first use or never: see `looks.AT_ONCE`.
        connection.execute(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY", prepare=False
        )
        connection.execute(_ONE_PLAN, prepare=False)
        asked = [
            _ask(connection, _MOMENT, {"parked": MOST_PARKED}),
            _ask(connection, _WORKERS, {}),
            _ask(connection, _JOBS, {"most": most, "last": LAST}),
            _ask(connection, _TOTALS, {}),
        ]
        moment, workers, jobs, totals = [cursor.fetchall() for cursor in asked]
    return Figures(moment[0], workers, jobs, totals)


def _ask(connection: Connection[Any], query: LiteralString, parameters: Row) -> Any:
    cursor = connection.cursor(row_factory=dict_row)
    return cursor.execute(query, parameters, prepare=looks.AT_ONCE)


_ONE_PLAN = """
    SELECT set_config('enable_seqscan', 'off', true),
        set_config('plan_cache_mode', 'force_generic_plan', true)
    """
"""For the transaction, as `database.ONE_PLAN` and for the same reasons."""

_MOMENT: LiteralString = """
    SELECT extract(epoch FROM now())::float8 AS now,
        (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM fence) AS claims,
        (SELECT coalesce(max(id), 0) FROM ledger) AS postings,
        (SELECT count(*) FROM worker WHERE remote) AS remote_leases,
        (SELECT max(longest_delay) FROM pulse
            WHERE minute >= date_trunc('minute', now()) - interval '1 min') AS longest_delay,
        (SELECT jsonb_object_agg(job, parked) FROM (
            SELECT job, count(*) AS parked FROM (
                SELECT job FROM history WHERE closing AND outcome = 'crashed'
                LIMIT %(parked)s) h
            GROUP BY job) h) AS parked
    """

# A name may have two rows, where a process died and another got its number: the living one counts.
_WORKERS: LiteralString = """
    SELECT w.name, bool_and(w.leaving) AS leaving, sum(w.slots) AS slots,
        extract(epoch FROM max(w.lease))::float8 AS lease,
        extract(epoch FROM max(w.lease_until) - now())::float8 AS lease_left,
        bool_and(greatest(w.lease_until, s.since + w.lease) < now()) AS silent
    FROM worker w CROSS JOIN server s WHERE NOT w.remote
    GROUP BY w.name ORDER BY w.name
    """

_JOBS: LiteralString = """
    WITH RECURSIVE level AS (
        -- As a claim does: the priorities of each job, one index probe each; so what waits for
        -- a later time costs nothing.
        SELECT j.name, (SELECT max(r.priority) FROM run r
            WHERE r.job = j.name AND r.token IS NULL) AS priority
        FROM job j
        UNION ALL
        SELECT l.name, (SELECT max(r.priority) FROM run r
            WHERE r.job = l.name AND r.token IS NULL AND r.priority < l.priority)
        FROM level l WHERE l.priority IS NOT NULL
    ), head AS MATERIALIZED (
        SELECT l.name, l.priority, h.not_before FROM level l CROSS JOIN LATERAL (
            SELECT r.not_before FROM run r
            WHERE r.job = l.name AND r.priority = l.priority AND r.token IS NULL
            ORDER BY r.not_before, r.id LIMIT 1) h
    ), share AS MATERIALIZED (
        SELECT greatest(%(most)s / greatest(count(DISTINCT name), 1), 1) AS most FROM head
    ), crew AS MATERIALIZED (
        SELECT unnest(w.jobs) AS name, count(*) AS workers FROM worker w
        WHERE w.lease_until > now() AND NOT w.leaving AND NOT w.remote GROUP BY 1
    ), held AS MATERIALIZED (
        SELECT r.job, count(*) AS running,
            extract(epoch FROM now() - min(r.started_at))::float8 AS longest
        FROM run r WHERE r.token IS NOT NULL GROUP BY r.job
    )
    SELECT j.name, j.schedule IS NOT NULL AS scheduled, j.paused,
        coalesce((j.settings ->> 'remote')::boolean, false) AS remote,
        coalesce((SELECT c.workers FROM crew c WHERE c.name = j.name), 0) AS workers,
        coalesce(u.running, 0) AS running, coalesce(u.longest, 0) AS longest,
        d.due, l.later, coalesce(o.oldest, 0) AS oldest,
        extract(epoch FROM s.not_before)::float8 AS next_at,
        CASE WHEN s.attempt = 0 AND NOT j.paused
            THEN greatest(extract(epoch FROM now() - s.due_at), 0)::float8 ELSE 0 END AS late,
        h.succeeded_at, h.duration, h.failures
    FROM job j CROSS JOIN share
        LEFT JOIN held u ON u.job = j.name
        LEFT JOIN run s ON s.job = j.name AND s.scheduled AND s.token IS NULL
        CROSS JOIN LATERAL (SELECT count(*) AS due FROM (
            SELECT FROM head h CROSS JOIN LATERAL (
                SELECT FROM run r WHERE r.job = h.name AND r.priority = h.priority
                    AND r.token IS NULL AND r.not_before <= now() LIMIT share.most) r
            WHERE h.name = j.name LIMIT share.most) r) d
        CROSS JOIN LATERAL (SELECT count(*) AS later FROM (
            SELECT FROM head h CROSS JOIN LATERAL (
                SELECT FROM run r WHERE r.job = h.name AND r.priority = h.priority
                    AND r.token IS NULL AND r.not_before > now() LIMIT share.most) r
            WHERE h.name = j.name LIMIT share.most) r) l
        CROSS JOIN LATERAL (
            SELECT greatest(extract(epoch FROM now() - min(h.not_before)), 0)::float8 AS oldest
            FROM head h WHERE h.name = j.name) o
        CROSS JOIN LATERAL (
            -- What was interrupted, cancelled, skipped or fenced says nothing of the job. Most jobs
            -- have enough attempts in a day; the many days of the history are asked for the others.
            WITH recent AS MATERIALIZED (
                SELECT outcome, started_at, finished_at FROM history h
                WHERE h.job = j.name AND h.finished_at > now() - interval '1 day'
                ORDER BY h.finished_at DESC, h.run_id DESC LIMIT %(last)s
            )
            SELECT extract(epoch FROM max(h.completed_at))::float8 AS succeeded_at,
                max(h.seconds) FILTER (WHERE h.place = h.completed) AS duration,
                count(*) FILTER (WHERE h.outcome IN ('failed', 'crashed', 'timed_out', 'missed')
                    AND h.place < coalesce(h.completed, 1000)) AS failures
            FROM (SELECT h.outcome, h.place,
                    extract(epoch FROM h.finished_at - h.started_at)::float8 AS seconds,
                    min(h.place) FILTER (WHERE h.outcome = 'completed') OVER () AS completed,
                    max(h.finished_at) FILTER (WHERE h.outcome = 'completed') OVER ()
                        AS completed_at
                FROM (SELECT h.outcome, h.started_at, h.finished_at,
                        row_number() OVER (ORDER BY h.finished_at DESC) AS place
                    FROM (SELECT * FROM recent UNION ALL (
                        SELECT outcome, started_at, finished_at FROM history h
                        WHERE h.job = j.name AND h.finished_at <= now() - interval '1 day'
                            AND (SELECT count(*) FROM recent) < %(last)s
                        ORDER BY h.finished_at DESC, h.run_id DESC LIMIT %(last)s)) h) h
                WHERE h.place <= %(last)s) h) h
    ORDER BY j.name
    """

_TOTALS: LiteralString = """
    SELECT job, what, sum(attempts)::bigint AS attempts, sum(seconds) AS seconds,
        extract(epoch FROM max(last_at))::float8 AS last_at
    FROM (SELECT job, what, attempts, seconds, last_at FROM total
        UNION ALL SELECT job, what, attempts, seconds, last_at FROM pulse_job) t
    GROUP BY job, what
    """
