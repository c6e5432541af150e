"""Checks: what must hold of the data, whatever became of processes, networks and servers.

Each names an invariant; its statement returns the rows that contradict it. Sources of the list:
what `docs/guarantees.md` promises.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.rows import dict_row

from cluster import schedule as schedules

_MOST = 20
"""Contradictions of one invariant that are shown."""
_FIRINGS = 5000
"""Firings of one job that are looked for, the newest ones."""

INVARIANTS: dict[str, LiteralString] = {
    "runs of a job do not overlap": """
        SELECT job, fence, started_at, before FROM (
            SELECT *, max(finished_at) OVER (PARTITION BY part ORDER BY fence
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
            FROM (
                SELECT h.job, coalesce(j.name, h.run_id::text) AS part, fence, started_at,
                    finished_at
                FROM history h LEFT JOIN job j ON j.name = h.job AND j.schedule IS NOT NULL
                WHERE started_at IS NOT NULL AND outcome <> 'fenced'
                UNION ALL
                SELECT job, CASE WHEN scheduled THEN job ELSE id::text END, fence, started_at,
                    'infinity'
                FROM run WHERE token IS NOT NULL
            ) attempt
        ) a WHERE started_at < before
        """,
    "an attempt ends once": """
        SELECT token, count(*) FROM history WHERE outcome <> 'fenced' AND token IS NOT NULL
        GROUP BY token HAVING count(*) > 1
        """,
    "an attempt under way has not ended": """
        SELECT r.job, r.id, r.token FROM run r JOIN history h USING (token)
        WHERE h.outcome <> 'fenced'
        """,
    "a run completes once, and then it is over": """
        SELECT h.run_id FROM history h JOIN history later USING (run_id)
        WHERE h.outcome = 'completed' AND later.fence > h.fence
            -- A failover may set the numbers back; who was fenced has had no effect.
            AND later.outcome <> 'fenced'
        UNION ALL
        SELECT h.run_id FROM history h JOIN run r ON r.id = h.run_id WHERE h.outcome = 'completed'
        """,
    "tokens grow: the fence of an attempt is greater than of the one before": """
        SELECT run_id, attempt, fence, before FROM (
            SELECT run_id, attempt, fence,
                lag(fence) OVER (PARTITION BY run_id ORDER BY attempt) AS before
            FROM (
                SELECT run_id, attempt, fence FROM history
                WHERE outcome <> 'fenced' AND token IS NOT NULL
                UNION ALL SELECT id, attempt, fence FROM run WHERE token IS NOT NULL) a
        ) b WHERE fence <= before
        UNION ALL
        SELECT NULL, NULL, fence, count(*) FROM (
            SELECT fence, token FROM history WHERE token IS NOT NULL AND outcome <> 'fenced'
            UNION SELECT fence, token FROM run WHERE token IS NOT NULL) f
        GROUP BY fence HAVING count(*) > 1
        """,
    "attempts are counted one by one": """
        SELECT run_id, max(attempt), count(*) FROM history
        WHERE outcome <> 'fenced' AND token IS NOT NULL
        GROUP BY run_id HAVING max(attempt) <> count(*)
        """,
    "no run starts before it is due": """
        SELECT run_id, job, due_at, started_at FROM history WHERE started_at < due_at
        """,
    # After a failover to a standby that lagged, claims of before may be unknown.
    "a fenced attempt had another end before": """
        SELECT run_id, job, token FROM history h WHERE outcome = 'fenced' AND NOT EXISTS (
            SELECT FROM history e WHERE e.token = h.token AND e.outcome <> 'fenced'
                AND e.finished_at <= h.finished_at)
            AND left(pg_walfile_name(pg_current_wal_lsn()), 8) = '00000001' -- no failover yet
        """,
    "a task is closed once, and then it is over": """
        SELECT run_id FROM history WHERE closing GROUP BY 1 HAVING count(*) > 1
        UNION ALL
        SELECT id FROM run r JOIN history h ON h.run_id = r.id AND h.closing
        """,
    "each job has one run": """
        SELECT j.name, count(r.id) FROM job j LEFT JOIN run r ON r.job = j.name AND r.scheduled
        WHERE j.schedule IS NOT NULL GROUP BY 1 HAVING count(r.id) <> 1
        """,
    "a firing has one fate": """
        SELECT job, due_at, array_agg(DISTINCT run_id) FROM history h
        WHERE job IN (SELECT name FROM job WHERE schedule IS NOT NULL)
        GROUP BY 1, 2 HAVING count(DISTINCT run_id) > 1
        """,
    # Nobody takes such a run over: every look finds it, so it is there for a moment only.
    "no run is held by nobody": """
        SELECT r.id, r.job, r.worker FROM run r WHERE r.token IS NOT NULL
            AND r.started_at < now() - interval '1 minute'
            AND NOT EXISTS (SELECT FROM worker w WHERE w.id = r.worker_id)
        """,
    "no limit is exceeded": """
        SELECT j.name, j.max_running, count(*) FROM job j JOIN run r ON r.job = j.name
        WHERE r.token IS NOT NULL AND j.max_running IS NOT NULL
        GROUP BY 1, 2 HAVING count(*) > j.max_running
        """,
    "postings add up to the balance, which is not negative": """
        SELECT u.id, u.balance, sum(l.amount) FROM users u LEFT JOIN ledger l ON l.user_id = u.id
        GROUP BY u.id HAVING u.balance <> coalesce(sum(l.amount), 0) OR u.balance < 0
        """,
}

_EVERY_FIRING = "every firing has a fate"
CHECKS = (*INVARIANTS, _EVERY_FIRING)


def contradictions(connection: Connection[Any]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Check the whole database; yield each invariant with what contradicts it, at most 20 rows.

    One snapshot for all of them, so that a cluster at work is judged at one moment.

    Args:
        connection: any in autocommit mode; statements may take long over a long history.
    """
    with connection.transaction():
        connection.execute(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;"
            "SET LOCAL statement_timeout = 0"
        )
        for name, query in INVARIANTS.items():
            yield name, connection.execute(query).fetchmany(_MOST)
        jobs = connection.cursor(row_factory=dict_row).execute(_FATES).fetchall()
        yield _EVERY_FIRING, [hole for job in jobs for hole in _holes(job)][:_MOST]


_FATES: LiteralString = """
    SELECT j.name, j.schedule, j.timezone, r.due_at AS until,
        -- Before, it may have had another schedule, or was not there.
        greatest(j.scheduled_at, (SELECT min(due_at) FROM history h WHERE h.job = j.name)) AS since,
        (SELECT array_agg(DISTINCT due_at) FROM history h
            WHERE h.job = j.name AND due_until IS NULL) AS fates,
        (SELECT json_agg(json_build_array(due_at, due_until)) FROM history h
            WHERE h.job = j.name AND due_until IS NOT NULL) AS spans
    FROM job j JOIN run r ON r.job = j.name AND r.scheduled
    """
"""Of each job: the firing that its run stands for now, and those that have a fate already."""


def _holes(job: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the firings before the run of now that have no fate."""
    if job["since"] is None or job["until"] is None:
        return
    schedule = schedules.parse(job["schedule"], job["timezone"])
    moment = timedelta(microseconds=1)
    until = job["until"] - moment
    since = schedules.newest(schedule, job["since"] - moment, until, _FIRINGS)
    fates = set(job["fates"] or ())
    spans = [tuple(map(datetime.fromisoformat, span)) for span in job["spans"] or ()]
    for firing in schedules.passed(schedule, since, until, _FIRINGS)[0]:
        if firing not in fates and not any(begin <= firing <= end for begin, end in spans):
            yield job["name"], firing
