"""Glance: all that the live page shows, read at one moment.

However long the history is: each statement walks an index by job and stops after what it shows.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.rows import dict_row

from cluster.database import Pool
from cluster.store.views import STANDING, Row

OUTCOMES = 20
"""Last outcomes of each job."""
COUNTED = 1000
"""Waiting tasks of a kind that are counted; more are "1,000 and more"."""
RUNS = 250
"""Runs of the picture, those under way first, then those that ended last."""
RUNS_OF_ONE = 60
"""Runs of one job or kind that ended and are in the picture."""
_READ = 3000
"""Rows of history that are read for the picture at most, whatever the number of jobs."""


@dataclass(frozen=True, slots=True)
class Glance:
    """The cluster at one moment.

    Attributes:
        now: the database's clock.
        workers: who has a row, with the number of runs under way; one for each name.
        jobs: what has a schedule, with its run and its last outcomes, the newest first.
        kinds: what can be asked for, with how many wait and are under way.
        since: where the last hour begins, at a whole minute: the same for all that look at once.
        running: runs under way, the newest first, at most `RUNS`.
        ended: attempts that have ended since then, the newest first, at most `RUNS`; all runs
            of a busy kind but the last `RUNS_OF_ONE` are left out.
        cut: whether there are more runs than those.
    """

    now: datetime
    workers: list[Row]
    jobs: list[Row]
    kinds: list[Row]
    since: datetime
    running: list[Row]
    ended: list[Row]
    cut: bool


def glance(pool: Pool) -> Glance:
    """Read it all in one snapshot.

    Raises:
        psycopg.OperationalError: the database does not answer.
    """
    with pool.connection() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor = connection.cursor(row_factory=dict_row)

        def rows(query: LiteralString, **parameters: object) -> list[Row]:
            return cursor.execute(query, parameters).fetchall()

        (moment,) = rows(_MOMENT)
        workers = rows(_WORKERS)
        jobs = rows(_JOBS, outcomes=OUTCOMES)
        kinds = rows(_KINDS, outcomes=OUTCOMES, counted=COUNTED)
        running = rows(_RUNNING, runs=RUNS + 1)
        of_one = max(min(RUNS_OF_ONE, _READ // (len(jobs) + len(kinds) + 1)), 1)
        ended = rows(_ENDED, since=moment["since"], of_one=of_one + 1, runs=RUNS + 1)
    counts = Counter(row["job"] for row in ended)
    shown = [row for row in ended if row["place"] <= of_one]
    return Glance(
        now=moment["now"],
        since=moment["since"],
        workers=workers,
        jobs=jobs,
        kinds=kinds,
        running=running[:RUNS],
        ended=shown[: max(RUNS - len(running), 0)],
        cut=len(running) + len(ended) > RUNS or any(n > of_one for n in counts.values()),
    )


_MOMENT: LiteralString = """
    SELECT now() AS now, date_trunc('minute', now() - interval '1 hour') AS since
    """

# A remote worker has a row for each claim; to people it is one. A lease is renewed at a third, so
# with less than half of it left something is late.
_WORKERS: LiteralString = """
    SELECT w.name, bool_and(w.remote) AS remote, min(w.started_at) AS started_at,
        sum(r.load)::integer AS load, max(w.slots) AS slots, bool_and(w.leaving) AS leaving,
        coalesce(sum(p.started), 0)::integer AS started,
        extract(epoch FROM max(w.lease))::float8 AS lease_seconds,
        CASE WHEN max(w.lease_until - w.lease / 2) < now() THEN max(w.lease_until) END AS late_until
    FROM worker w
        CROSS JOIN LATERAL (SELECT count(*) AS load FROM run r
            WHERE r.worker_id = w.id AND r.token IS NOT NULL) r
        LEFT JOIN (SELECT worker, sum(started) AS started FROM pulse
            WHERE minute >= date_trunc('minute', now() - interval '1 hour') GROUP BY worker) p
            ON p.worker = w.id
    GROUP BY w.name ORDER BY w.name
    """

_JOBS: LiteralString = f"""
    SELECT j.name, j.description, j.schedule, j.timezone,
        r.id AS run_id, r.attempt, r.worker, r.started_at, r.not_before,
        round(r.progress::numeric, 2)::float8 AS progress,
        {STANDING},
        h.outcomes
    FROM job j
        LEFT JOIN run r ON r.job = j.name AND r.scheduled,
        LATERAL (SELECT array_agg(outcome) AS outcomes FROM (
            SELECT outcome FROM history h WHERE h.job = j.name
            ORDER BY finished_at DESC, run_id DESC LIMIT %(outcomes)s) h) h
    WHERE j.schedule IS NOT NULL
    ORDER BY j.name
    """

_KINDS: LiteralString = """
    SELECT j.name, j.description, j.paused, j.max_running, w.waiting, w.due, u.running, h.outcomes
    FROM job j,
        LATERAL (SELECT count(*)::integer AS waiting,
                (count(*) FILTER (WHERE not_before <= now()))::integer AS due
            FROM (SELECT not_before FROM run r WHERE r.job = j.name AND r.token IS NULL
                LIMIT %(counted)s) r) w,
        LATERAL (SELECT count(*)::integer AS running FROM run r
            WHERE r.job = j.name AND r.token IS NOT NULL) u,
        LATERAL (SELECT array_agg(outcome) AS outcomes FROM (
            SELECT outcome FROM history h WHERE h.job = j.name
            ORDER BY finished_at DESC, run_id DESC LIMIT %(outcomes)s) h) h
    WHERE j.schedule IS NULL
    ORDER BY j.name
    """

_RUNNING: LiteralString = """
    SELECT id AS run_id, job, name, worker, attempt, started_at, NULL AS finished_at,
        'running' AS outcome
    FROM run WHERE token IS NOT NULL
    ORDER BY started_at DESC LIMIT %(runs)s
    """

# A fenced attempt has had another end before, which is its bar.
_ENDED: LiteralString = """
    SELECT j.name AS job, h.*
    FROM job j,
        LATERAL (SELECT run_id, name, worker, attempt, started_at, finished_at, outcome,
                row_number() OVER () AS place
            FROM (SELECT * FROM history h
                WHERE h.job = j.name AND h.finished_at > %(since)s
                    AND h.started_at IS NOT NULL AND h.outcome <> 'fenced'
                ORDER BY h.finished_at DESC, h.run_id DESC LIMIT %(of_one)s) h) h
    ORDER BY h.finished_at DESC, h.run_id DESC LIMIT %(runs)s
    """
