"""Time `GET /jobs` and a page of history over a long history, on a cluster of its own.

    python benchmarks/jobs_page.py [--rows 1000000] [--requests 500]

Starts a PostgreSQL and five workers in a temporary folder, spreads the rows over the thirty days
before, asks over one connection that is kept alive, and prints milliseconds.
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
_DAYS = """
    DO $$ DECLARE day date; BEGIN
        FOR day IN SELECT current_date - n FROM generate_series(1, 30) AS n LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF history FOR VALUES FROM (%L) TO (%L)',
                'history_' || to_char(day, 'YYYYMMDD'), day::timestamp AT TIME ZONE 'UTC',
                (day + 1)::timestamp AT TIME ZONE 'UTC');
        END LOOP;
    END $$
    """


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of history")
    parser.add_argument("--requests", type=int, default=500, help="requests to each path")
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
            for path in ("/jobs", "/jobs/wait/history"):
                took = _measure(instance.http, path, options.requests)
                print(f"{rows:>9} rows  {path:<20} {took}")


def make_days(connection: psycopg.Connection[Any]) -> None:
    """Make the partitions of the thirty days before today."""
    connection.execute(_DAYS)


def _fill(url: str, rows: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        if rows:
            make_days(connection)
            connection.execute(_FILL, {"rows": rows})
        connection.execute("VACUUM ANALYZE history")


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
