"""Count with guarded tasks while workers are killed again and again; the count must be exact.

    python benchmarks/exactly_once.py [--tasks 100000] [--every 1]

Each task adds one to one of fifty rows, in the commit that ends it. Exit status 1 if the sum is
not the number of tasks, or if `verify` finds a violation.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.system.facts import database, outcomes, rows, unsound
from tests.system.gunicorns import Instance, gunicorn, job_module, ready, server_of

KIND = """
from cluster import Run, task

@task(retry_delay=0)
def count(run: Run, number: int) -> None:
    with run.transaction() as connection:
        connection.execute("UPDATE counter SET value = value + 1 WHERE id = %s", (number % 50,))
        run.finish()
"""


def main() -> int:
    """Post, kill, count; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two kills")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
        database(server) as url,
        gunicorn(url, Path(folder), env=job_module(Path(folder), KIND)) as instance,
    ):
        ready(instance)
        rows(url, "CREATE TABLE counter AS SELECT id, 0 AS value FROM generate_series(0, 49) id")
        begun = time.monotonic()
        kills = _under_kills(url, instance, options.tasks, options.every)
        took = time.monotonic() - begun
        ((value,),) = rows(url, "SELECT sum(value) FROM counter")
        violations = unsound(url)
        print(f"{options.tasks} tasks, {kills} kills, {took:.1f} s: counted {value}")
        print(f"attempts by outcome: {outcomes(url)}; violations: {violations or 'none'}")
    return int(value != options.tasks or bool(violations))


def _under_kills(url: str, instance: Instance, tasks: int, every: float) -> int:
    """Post the tasks, kill a worker now and then until all are over; return how many."""
    for start in range(0, tasks, 10_000):
        numbers = range(start, min(start + 10_000, tasks))
        batch = [{"name": "n", "kind": "count", "args": {"number": n}} for n in numbers]
        query = "SELECT count(*) FROM enqueue_many(%(batch)s)"
        rows(url, query, batch=orjson.dumps(batch).decode())
    kills, next_at = 0, time.monotonic() + every
    while rows(url, "SELECT 1 FROM run LIMIT 1"):
        time.sleep(0.05)
        workers = list(instance.workers().values())
        if workers and time.monotonic() >= next_at:
            random.choice(workers).kill()
            kills, next_at = kills + 1, time.monotonic() + every
    return kills


if __name__ == "__main__":
    sys.exit(main())
