"""Measure tasks: start latency, drain, posting, and pages over a long history, in one run.

    python benchmarks/tasks.py [--rows 10000000] [--tasks 20000] [--explain]

Starts a PostgreSQL and five workers in a temporary folder. Prints the same figures without and
with the rows of history, beside the raw ceiling of the same server: five bare loops that claim
and finish batches of fifty, history included, and one bare INSERT.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any, LiteralString

import httpx
import orjson
import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.explain import plans
from benchmarks.pages import make_days
from tests.eventually import eventually
from tests.system.facts import database
from tests.system.gunicorns import Instance, gunicorn, job_module, server_of

_MODULE = """
from cluster import task


@task(name="noop", retry_delay=0)
def noop() -> None:
    '''Do nothing.'''
"""
_FILL: LiteralString = """
    INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
        finished_at, outcome, closing, name, args, priority, failures)
    SELECT uuid7(at), 'noop', 1, gen_random_uuid(), 0, 'host:1', at, at, at + interval '5 ms',
        CASE WHEN n %% 1000 = 0 THEN 'failed' ELSE 'completed' END, true, 'task', '{}', 0, 0
    FROM (SELECT n, now() - interval '10 min' - (n * interval '29 days' / %(rows)s) AS at
        FROM generate_series(1, %(rows)s) AS n) AS firing
    """
_LOOP: LiteralString = """
    WITH batch AS (
        DELETE FROM ceiling WHERE id IN (SELECT id FROM ceiling ORDER BY id LIMIT 50
            FOR UPDATE SKIP LOCKED) RETURNING id
    )
    INSERT INTO ceiling_history SELECT id, gen_random_uuid(), now(), now(), 'completed' FROM batch
    """


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of history")
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks to drain")
    parser.add_argument("--requests", type=int, default=300, help="requests of each kind")
    parser.add_argument("--explain", action="store_true", help="print the plans as well")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
        database(server) as url,
    ):
        settings = job_module(Path(folder), _MODULE)
        with gunicorn(url, Path(folder), env=settings) as instance:
            eventually(lambda: len(instance.get("/workers")) == 5, within=60)
            for rows in (0, options.rows):
                _fill(url, rows)
                print(f"\nwith {rows:,} finished tasks")
                _measure(instance, url, options.tasks, options.requests)
                if options.explain:
                    plans(url)
            print(f"\nraw ceiling: {_ceiling(url, options.tasks * 5)}")


def _fill(url: str, rows: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        if rows:
            make_days(connection)
            begun = time.perf_counter()
            connection.execute(_FILL, {"rows": rows})
            print(f"filled in {time.perf_counter() - begun:.0f} s")
        connection.execute("VACUUM ANALYZE history")
        connection.execute("VACUUM ANALYZE run")
        connection.execute("CHECKPOINT")


def _measure(instance: Instance, url: str, tasks: int, requests: int) -> None:
    http = instance.http
    _say("start after its commit", _starts(http, url, requests))
    print(f"{'drain':<32} {_drain(http, url, tasks):,.0f} tasks/s")
    last = http.get("/tasks?limit=1").json()[0]["task_id"]
    older = http.get(f"/tasks?limit=1&cursor={_middle(url)}").json()
    middle = older[0]["task_id"] if older else last
    paths = {
        "GET /tasks/{id}, newest": f"/tasks/{last}",
        "GET /tasks/{id}, from the middle": f"/tasks/{middle}",
        "GET /tasks": "/tasks",
        "GET /tasks?status=4": "/tasks?status=4",
        "GET /tasks?status=2": "/tasks?status=2",
        "GET /tasks, page in the middle": f"/tasks?cursor={middle}",
        "GET /health, for comparison": "/health",
    }
    for name, path in paths.items():
        _say(name, [_timed(partial(http.get, path)) for _ in range(requests)])
    body = {"name": "later", "kind": "noop", "run_at": "2999-01-01T00:00:00Z"}
    _say("POST /tasks", [_timed(lambda: http.post("/tasks", json=body)) for _ in range(requests)])
    batch = orjson.dumps([body] * 10_000)
    headers = {"Content-Type": "application/json"}
    took = _timed(lambda: http.post("/tasks/batch", content=batch, headers=headers))
    print(f"{'POST /tasks/batch of 10,000':<32} {1e7 / took:,.0f} tasks/s")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM run WHERE due_at > '2998-01-01'")
        connection.execute("VACUUM run")


def _starts(http: httpx.Client, url: str, count: int) -> list[float]:
    """Return the milliseconds from a task's commit to its start, by the database's clock."""
    ids = []
    for _ in range(count):
        ids.append(http.post("/tasks", json={"name": "x", "kind": "noop"}).json()["task_id"])
        eventually(partial(_is_done, http, ids[-1]), every=0.002)
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT extract(epoch FROM started_at - due_at)::float8 * 1000 FROM history"
            " WHERE run_id = ANY (%s::uuid[])",
            (ids,),
        ).fetchall()
    return [row[0] for row in rows]


def _is_done(http: httpx.Client, task: str) -> bool:
    return bool(http.get(f"/tasks/{task}").json()["status"] == 3)


def _drain(http: httpx.Client, url: str, tasks: int) -> float:
    """Return the tasks a second from the first start to the last end of a backlog."""
    headers = {"Content-Type": "application/json"}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE job SET paused = true WHERE name = 'noop'")
        for start in range(0, tasks, 10_000):
            body = [{"name": "x", "kind": "noop"}] * min(10_000, tasks - start)
            http.post(
                "/tasks/batch", content=orjson.dumps(body), headers=headers
            ).raise_for_status()
        connection.execute("UPDATE job SET paused = false WHERE name = 'noop'")
        eventually(lambda: not _one(connection, "SELECT count(*) FROM run"), within=600, every=0.1)
        seconds = _one(
            connection,
            "SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM ("
            " SELECT started_at, finished_at FROM history ORDER BY finished_at DESC LIMIT %s) h",
            tasks,
        )
    return tasks / float(seconds)


def _ceiling(url: str, tasks: int) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE ceiling (id bigint PRIMARY KEY, args jsonb)")
        connection.execute(
            "CREATE TABLE ceiling_history (id bigint, token uuid, started_at timestamptz,"
            " finished_at timestamptz, outcome text)"
        )
        connection.execute("CREATE INDEX ON ceiling_history (id)")
        begun = time.perf_counter()
        connection.execute(
            "INSERT INTO ceiling SELECT n, '{}' FROM generate_series(1, %s) n", (tasks,)
        )
        inserted = tasks / (time.perf_counter() - begun)
        connection.execute("VACUUM ANALYZE ceiling")
    begun = time.perf_counter()
    loops = [multiprocessing.Process(target=_loop, args=(url,)) for _ in range(5)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    drained = tasks / (time.perf_counter() - begun)
    return f"{drained:,.0f} tasks/s in batches of 50; INSERT {inserted:,.0f} rows/s"


def _loop(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(_LOOP).rowcount:
            pass


def _middle(url: str) -> str:
    with psycopg.connect(url) as connection:
        return str(_one(connection, "SELECT uuid7(now() - interval '14 days')"))


def _one(connection: psycopg.Connection[Any], query: LiteralString, *parameters: Any) -> Any:
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None


def _timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return (time.perf_counter() - begun) * 1000


def _say(name: str, took: list[float]) -> None:
    centiles = quantiles(took, n=100)
    print(f"{name:<32} p50 {centiles[49]:6.2f}  p99 {centiles[98]:6.2f}  max {max(took):6.2f} ms")


if __name__ == "__main__":
    main()
