"""Waits: why runs that wait do so, told from one look at the database."""

from collections.abc import Sequence
from typing import LiteralString
from uuid import UUID

from psycopg.rows import dict_row

from cluster.database import Pool
from cluster.reason import Facts, Holder, Reason, clock, reason, span
from cluster.store import looks
from cluster.store.views import Row

COUNTED = 10_000
"""Places that are counted for a page of runs."""
_HOLDERS = 10
"""Runs under way that are told of those that fill a limit."""


def reasons(pool: Pool, runs: Sequence[UUID], *, counted: int = COUNTED) -> dict[UUID, Reason]:
    """Return why runs wait, without those that don't (any more), or never were.

    One look: whatever begins or ends meanwhile, what is told was so at one moment. Places are
    those in the order of priority, of what has a spread before what has none, and of due time; a
    claim that takes one kind after the other may differ by a batch.

    Args:
        pool: any.
        runs: about a hundred.
        counted: places in the queues that are counted, all queues together. Each thousand takes
            half a millisecond.
    """
    if not runs:
        return {}
    parameters = {"runs": list(runs), "most": counted, "holders": _HOLDERS}
    with pool.connection() as connection, connection.pipeline(), connection.transaction():
        # Prepared at the first use or never: see `looks.AT_ONCE`.
        connection.execute(_ONE_PLAN, prepare=False)
        cursor = connection.cursor(row_factory=dict_row)
        cursor.execute(_WAITS, parameters, prepare=looks.AT_ONCE)
        rows = cursor.fetchall()
    return {row["id"]: reason(_facts(row)) for row in rows}


def behind(job: Row) -> Reason | None:
    """Return why the next firing of a job waits that is under way; None if it is not.

    Args:
        job: a row of `views.jobs`.
    """
    if job["state"] != "running":
        return None
    gist = f"previous run under way on {job['worker']} since {clock(job['started_at'])}"
    text = f"{gist} (for {span(job['now'] - job['started_at'])})"
    return Reason("run_before", text, holders=[Holder(job["run_id"], job["worker"])], gist=gist)


def _facts(row: Row) -> Facts:
    holders = [Holder(UUID(run), worker) for run, worker in row.pop("holders") or ()]
    again = (row.pop("what"), row.pop("nth"))
    who, at = row.pop("paused_by"), row.pop("paused_at")
    del row["id"]
    return Facts(
        **row,
        holders=holders,
        again=None if again[0] is None else again,
        paused_by=None if who is None else (who, at),
    )


_ONE_PLAN = """
    SELECT set_config('enable_seqscan', 'off', true),
        set_config('plan_cache_mode', 'force_generic_plan', true)
    """
"""For the transaction, as `database.ONE_PLAN` and for the same reasons. To plan anew takes longer
than to look."""

_WAITS: LiteralString = """
    WITH RECURSIVE wanted AS MATERIALIZED (
        SELECT r.*, r.not_before <= now() AND (r.start_by IS NULL OR r.start_by > now()) AS due
        FROM unnest(%(runs)s::uuid[]) AS u (id) JOIN run r ON r.id = u.id WHERE r.token IS NULL
    ), crew AS MATERIALIZED (
        SELECT w.jobs, w.slots, w.slots - (SELECT count(*) FROM run r
            WHERE r.worker_id = w.id AND r.token IS NOT NULL) AS free
        FROM worker w WHERE w.lease_until > now() AND NOT w.leaving AND NOT w.remote
    ), known AS MATERIALIZED (
        SELECT name, count(*) AS workers,
            CASE WHEN count(*) = count(slots) THEN sum(slots)::bigint END AS slots,
            sum(greatest(free, 0))::bigint AS free
        FROM crew CROSS JOIN LATERAL unnest(jobs) AS n (name) GROUP BY name
    ), kind AS MATERIALIZED (
        -- Those that are asked for, and those that compete with them for a slot. What has a limit,
        -- or needs a remote worker, stands in a queue of its own.
        SELECT j.name, j.paused, j.max_running, c.remote, h.held, k.workers, k.slots, k.free,
            CASE WHEN c.remote OR j.max_running IS NOT NULL THEN j.name ELSE '' END AS queue
        FROM job j LEFT JOIN known k ON k.name = j.name
            CROSS JOIN LATERAL (
                SELECT coalesce((j.settings ->> 'remote')::boolean, false)) c (remote)
            CROSS JOIN LATERAL (SELECT CASE WHEN j.max_running IS NULL THEN 0 ELSE (
                SELECT count(*) FROM run r
                WHERE r.job = j.name AND r.token IS NOT NULL) END) h (held)
        WHERE k.name IS NOT NULL AND NOT j.paused OR j.name IN (SELECT job FROM wanted)
    ), asked AS MATERIALIZED (
        SELECT DISTINCT k.queue FROM wanted w JOIN kind k ON k.name = w.job
        WHERE w.due AND NOT k.paused AND (k.workers > 0 OR k.remote)
    ), level AS (
        -- The priorities that a job has runs of, one index probe each, as a claim finds them.
        -- In the queue of all, a kind with a limit takes no more places than it has room.
        SELECT a.queue, k.name, CASE WHEN a.queue = '' THEN k.max_running - k.held END AS room,
            (SELECT max(r.priority) FROM run r
            WHERE r.job = k.name AND r.token IS NULL) AS priority
        FROM asked a JOIN kind k ON a.queue = k.queue
            OR a.queue = '' AND k.held < k.max_running AND NOT k.remote
        WHERE NOT k.paused AND (k.workers > 0 OR k.remote)
        UNION ALL
        SELECT l.queue, l.name, l.room, (SELECT max(r.priority) FROM run r
            WHERE r.job = l.name AND r.token IS NULL AND r.priority < l.priority)
        FROM level l WHERE l.priority IS NOT NULL
    ), head AS MATERIALIZED (
        SELECT l.*, h.not_before, h.shared FROM level l CROSS JOIN LATERAL (
            SELECT r.not_before, r.spread > '0' AS shared FROM run r
            WHERE r.job = l.name AND r.priority = l.priority AND r.token IS NULL
                AND r.not_before <= now()
            ORDER BY r.not_before, r.id LIMIT 1) h
    ), place AS MATERIALIZED (
        SELECT c.id, row_number() OVER (PARTITION BY a.queue
            ORDER BY c.priority DESC, c.shared DESC, c.not_before, c.id) AS place
        FROM asked a CROSS JOIN LATERAL (
            SELECT c.*, h.shared FROM (SELECT * FROM head WHERE head.queue = a.queue
                ORDER BY priority DESC, shared DESC, not_before) h
            CROSS JOIN LATERAL (
                SELECT r.id, r.priority, r.not_before FROM run r
                WHERE r.job = h.name AND r.priority = h.priority AND r.token IS NULL
                    AND r.not_before <= now()
                ORDER BY r.not_before, r.id
                LIMIT h.room) c
            LIMIT %(most)s / (SELECT count(*) FROM asked)) c
    ), pace AS MATERIALIZED (
        -- Minutes of the last ten in which runs waited from the beginning, so all slots worked.
        SELECT avg(started)::float8 / 60 AS pace FROM (
            SELECT minute, sum(started) AS started, max(waiting) > 0 AND max(max(waiting)) OVER (
                ORDER BY minute RANGE BETWEEN '1 min' PRECEDING AND '1 min' PRECEDING) > 0 AS busy
            FROM pulse WHERE minute > now() - interval '11 min' GROUP BY minute) p
        WHERE busy AND minute < date_trunc('minute', now())
    ), length AS MATERIALIZED (
        -- Seconds that the last attempts of a kind have taken; a lost firing has taken none.
        SELECT k.name, h.seconds FROM kind k CROSS JOIN LATERAL (
            SELECT avg(extract(epoch FROM h.finished_at - h.started_at))::float8 AS seconds FROM (
                SELECT * FROM history h WHERE h.job = k.name
                ORDER BY h.finished_at DESC, h.run_id DESC LIMIT 20) h
            WHERE h.outcome <> 'fenced') h
        WHERE NOT k.remote AND k.name IN (SELECT job FROM wanted WHERE due)
    )
    SELECT w.id, now() AS now, w.scheduled, w.not_before,
        nullif(w.start_by, '-infinity') AS start_by,
        w.start_by IS NOT DISTINCT FROM '-infinity' AS cancelled,
        coalesce(k.paused, false) AS paused, a.who AS paused_by, a.at AS paused_at,
        coalesce(k.remote, false) AS remote, (SELECT count(*) FROM crew) AS at_work,
        coalesce(k.workers, 0) AS workers, k.slots, coalesce(k.free, 0) AS free,
        CASE WHEN o.opens_at > now() THEN o.opens_at END AS opens_at,
        k.max_running, coalesce(k.held, 0) AS held, s.holders, p.place,
        %(most)s / greatest((SELECT count(*) FROM asked), 1) AS counted,
        CASE WHEN k.remote THEN NULL
            WHEN k.max_running IS NOT NULL THEN k.max_running / nullif(l.seconds, 0)
            ELSE coalesce((SELECT pace FROM pace), k.slots / nullif(l.seconds, 0)) END AS pace,
        e.what, e.nth
    FROM wanted w CROSS JOIN opening o LEFT JOIN kind k ON k.name = w.job
        LEFT JOIN place p ON p.id = w.id LEFT JOIN length l ON l.name = w.job
        LEFT JOIN LATERAL (
            SELECT jsonb_agg(jsonb_build_array(r.id, r.worker)) AS holders FROM (
                SELECT r.id, r.worker FROM run r WHERE r.job = w.job AND r.token IS NOT NULL
                ORDER BY r.started_at, r.id LIMIT %(holders)s) r) s
            ON w.due AND k.held >= k.max_running
        LEFT JOIN LATERAL (
            SELECT a.who, uuid7_time(a.id) AS at FROM (
                SELECT * FROM action a
                WHERE a.target = CASE WHEN w.scheduled THEN 'job:' ELSE 'kind:' END || w.job
                    AND a.what IN ('pause', 'resume')
                ORDER BY a.id DESC LIMIT 1) a WHERE a.what = 'pause') a ON k.paused
        LEFT JOIN LATERAL (
            SELECT CASE h.outcome WHEN 'crashed' THEN 'crash' ELSE 'failure' END AS what,
                CASE h.outcome WHEN 'crashed' THEN w.crashes ELSE w.failures END AS nth
            FROM history h WHERE h.run_id = w.id AND h.attempt = w.attempt
                AND h.finished_at > uuid7_time(w.id) - interval '1 day' AND h.outcome <> 'fenced'
            LIMIT 1) e ON w.attempt > 0 AND w.not_before > now()
    """
