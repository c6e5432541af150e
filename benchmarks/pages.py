"""Time every page, and the lists of jobs, over a long history, on a cluster of its own.

    python benchmarks/pages.py [--rows 1000000] [--requests 200]

Starts a PostgreSQL and five workers in a temporary folder, spreads the rows over the thirty days
before, half of them firings and half of them tasks, and as many postings; asks over one connection
that is kept alive, and prints milliseconds of whole answers.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.system.facts import database, shares
from tests.system.gunicorns import gunicorn, server_of

_FILL = """
    INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
        finished_at, outcome)
    SELECT uuid7(at), (ARRAY(SELECT name FROM job ORDER BY name))[1 + n %% 10], 1,
        gen_random_uuid(), 0, 'host:1', at, at, at + interval '2 min', 'completed'
    FROM (SELECT n, now() - interval '10 min' - (n * interval '29 days' / %(rows)s) AS at
        FROM generate_series(1, %(rows)s) AS n) AS firing
    """
_FILL_TASKS = """
    INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
        finished_at, outcome, error, closing, name, args, priority, failures)
    SELECT uuid7(at), (ARRAY['processing', 'count-words', 'import-csv'])[1 + n %% 3], 1,
        gen_random_uuid(), 0, 'host:1', at, at, at + interval '5 ms',
        CASE WHEN n %% 100 = 0 THEN 'failed' ELSE 'completed' END,
        CASE WHEN n %% 100 = 0 THEN 'ValueError: no' END, true, 'invoice ' || n, '{}', 0, 0
    FROM (SELECT n, now() - interval '10 min' - (n * interval '29 days' / %(rows)s) AS at
        FROM generate_series(1, %(rows)s) AS n) AS task
    """
_FILL_LEDGER = """
    INSERT INTO ledger (user_id, amount, balance)
    SELECT 1, 1 - 2 * (n %% 2), 10000 FROM generate_series(1, %(rows)s) AS n
    """
PATHS = (
    "/jobs",
    "/jobs/wait/history",
    "/",
    "/ui/jobs/wait",
    "/ui/runs/{run}",
    "/ui/runs/{task}",
    "/ui/tasks",
    "/ui/tasks?status=ERROR&kind=processing",
    "/ui/tasks?q=invoice+4711",
    "/ui/tasks?q=invoice+12*",
    "/ui/kinds",
    "/ui/kinds/processing",
    "/ui/users/1",
    "/ui/actions",
)
"""Every page that shows what the database holds, and the two lists of the API that grow."""
_DAYS = """
    DO $$ DECLARE day date; BEGIN
        FOR day IN SELECT current_date - n FROM generate_series(1, 30) AS n LOOP
            EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF history'
                ' FOR VALUES FROM (%L) TO (%L)', 'history_' || to_char(day, 'YYYYMMDD'),
                day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
        END LOOP;
    END $$
    """


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of history")
    parser.add_argument("--requests", type=int, default=200, help="requests to each path")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
        database(server) as url,
        gunicorn(url, Path(folder)) as instance,
    ):
        shares(url)
        for rows in (0, options.rows):
            _fill(url, rows)
            names = _some(url)
            for path in PATHS:
                took = _measure(instance.http, path.format(**names), options.requests)
                print(f"{rows:>9} rows  {path:<40} {took}")


def make_days(connection: psycopg.Connection[Any]) -> None:
    """Make the partitions of the thirty days before today."""
    connection.execute(_DAYS)


def _fill(url: str, rows: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        if rows:
            make_days(connection)
            half = {"rows": rows // 2}
            connection.execute(_FILL, half)
            connection.execute(_FILL_TASKS, half)
            connection.execute(_FILL_LEDGER, {"rows": rows})
        connection.execute("VACUUM ANALYZE history")
        connection.execute("VACUUM ANALYZE ledger")
        connection.execute("CHECKPOINT")


def _some(url: str) -> dict[str, str]:
    """Return the id of a run, and of a task if there is one, from the middle of the history."""
    query = """
        SELECT run_id::text FROM history WHERE closing = %s
        ORDER BY abs(extract(epoch FROM finished_at - now() + interval '14 days')) LIMIT 1
        """
    with psycopg.connect(url) as connection:
        run, task = (connection.execute(query, (closing,)).fetchone() for closing in (False, True))
        waiting = connection.execute("SELECT id::text FROM run LIMIT 1").fetchone()
    assert waiting  # noqa: S101 - ten jobs are declared
    return {"run": (run or waiting)[0], "task": (task or waiting)[0]}


def _measure(http: httpx.Client, path: str, requests: int) -> str:
    took = []
    for _ in range(requests):
        begun = time.perf_counter()
        http.get(path).raise_for_status()
        took.append((time.perf_counter() - begun) * 1000)
    centiles = quantiles(took, n=100)
    return f"p50 {centiles[49]:.1f} ms  p99 {centiles[98]:.1f} ms  max {max(took):.1f} ms"


if __name__ == "__main__":
    main()
