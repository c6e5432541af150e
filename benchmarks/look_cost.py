"""Measure what one idle look costs the server, by how many workers and jobs there are.

    python benchmarks/look_cost.py

One embedded server, one connection; the least of many looks, for the machine may be busy.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from cluster import database
from cluster.database import Pool
from cluster.job import Job
from cluster.migrate import migrate
from cluster.process import Identity
from cluster.store import jobs, leases, looks
from tests.system import facts
from tests.system.gunicorns import server_of

SIZES = [(5, 10), (100, 10), (1_000, 10), (10_000, 10), (5, 100), (5, 1_000), (5, 10_000)]


def nothing() -> None:
    """Do nothing."""


def main() -> int:
    """Print a table; return 0."""
    print("| workers | jobs | an idle look |")
    print("|--:|--:|--:|")
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
    ):
        for workers, declared in SIZES:
            with facts.database(server) as url:
                migrate(url)
                print(f"| {workers:,} | {declared:,} | {_look(url, workers, declared)} |")
    return 0


def _look(url: str, workers: int, declared: int) -> str:
    session = {**database.ONE_PLAN, "statement_timeout": "0"}
    with database.pool(url, "ronin look", 1, session=session) as pool:
        names = [f"job-{number}" for number in range(declared)]
        jobs.declare(pool, [Job(name=name, function=nothing, schedule="@yearly") for name in names])
        worker = leases.register(pool, "host:1", Identity("host", 1, 1), names, 3600)
        _crowd(pool, workers - 1)
        ask = looks.Ask(worker, "host", names, 0, 16, 0.1)
        took = []
        for _ in range(60):
            began = time.perf_counter()
            looks.claim(pool, ask)
            took.append(time.perf_counter() - began)
    return f"{1000 * min(took):.2f} ms"


def _crowd(pool: Pool, count: int) -> None:
    """Insert leases of fifty workers on each host."""
    with pool.connection() as connection:
        connection.execute(
            """
            INSERT INTO worker (id, name, host, pid, process_started, jobs, lease, lease_until)
            SELECT uuid7(), 'h:' || n, 'host' || n / 50, n, 1, '{}', '1 hour', now() + '1 hour'
            FROM generate_series(1, %s) n
            """,
            (count,),
        )
        connection.execute("ANALYZE")


if __name__ == "__main__":
    sys.exit(main())
