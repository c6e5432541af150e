"""What the database says of a cluster, whatever its processes say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.eventually import eventually

Row = tuple[Any, ...]


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """Make an empty database; give its URL."""
    name = sql.Identifier(text := f"ronin_{uuid4().hex}")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template1").format(name))
    try:
        yield make_conninfo(server_url, dbname=text)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def rows(url: str, query: LiteralString, **parameters: Any) -> list[Row]:
    """Run one statement on a connection of its own and return its rows, if it has any."""
    with psycopg.connect(url, autocommit=True, connect_timeout=3) as connection:
        cursor = connection.execute(query, parameters)
        return cursor.fetchall() if cursor.description else []


def now(url: str) -> Any:
    """Return the database's clock."""
    return rows(url, "SELECT clock_timestamp()")[0][0]


def held(url: str) -> dict[str, list[str]]:
    """Return the jobs under way by worker."""
    found: dict[str, list[str]] = {}
    for worker, job in rows(url, "SELECT worker, job FROM run WHERE token IS NOT NULL ORDER BY 2"):
        found.setdefault(worker, []).append(job)
    return found


def shares(url: str, jobs: int = 10) -> list[int]:
    """Wait until all jobs are under way; return how many each lease holder has, sorted."""
    query: LiteralString = """
        SELECT count(r.id) FROM worker w LEFT JOIN run r ON r.worker_id = w.id
        GROUP BY w.id ORDER BY 1
        """

    def all_under_way() -> list[int]:
        counts = [row[0] for row in rows(url, query)]
        assert sum(counts) == jobs
        return counts

    return eventually(all_under_way, within=40)


def outcomes(url: str) -> dict[str, int]:
    """Return how many attempts ended in which way."""
    return dict(rows(url, "SELECT outcome, count(*) FROM history GROUP BY 1"))


def completed(url: str) -> int:
    """Return how many different jobs have completed."""
    query: LiteralString = "SELECT count(DISTINCT job) FROM history WHERE outcome = 'completed'"
    number: int = rows(url, query)[0][0]
    return number


def unsound(url: str) -> dict[str, list[Row]]:
    """Return what contradicts the guarantees, by guarantee; empty if all of them hold."""
    found = {name: rows(url, query) for name, query in _CONTRADICTIONS.items()}
    return {name: contradictions for name, contradictions in found.items() if contradictions}


_CONTRADICTIONS: dict[str, LiteralString] = {
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
    "a run completes once, and then it is over": """
        SELECT h.run_id FROM history h JOIN history later USING (run_id)
        WHERE h.outcome = 'completed' AND later.fence > h.fence
        UNION ALL
        SELECT h.run_id FROM history h JOIN run r ON r.id = h.run_id WHERE h.outcome = 'completed'
        """,
    "attempts are counted one by one": """
        SELECT run_id, max(attempt), count(*) FROM history
        WHERE outcome <> 'fenced' AND token IS NOT NULL
        GROUP BY run_id HAVING max(attempt) <> count(*)
        """,
    "no run starts before it is due": "SELECT * FROM history WHERE started_at < due_at",
    "a fenced attempt had another end before": """
        SELECT * FROM history h WHERE outcome = 'fenced' AND NOT EXISTS (
            SELECT FROM history e WHERE e.token = h.token AND e.outcome <> 'fenced'
                AND e.finished_at <= h.finished_at)
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
    "postings add up to the balance": """
        SELECT u.id, u.balance, sum(l.amount) FROM users u LEFT JOIN ledger l ON l.user_id = u.id
        GROUP BY u.id HAVING u.balance <> coalesce(sum(l.amount), 0) OR u.balance < 0
        """,
}
