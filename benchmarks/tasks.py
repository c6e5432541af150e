"""Measure tasks over a history that grows: start, drain, posting, and what is asked of them.

    python benchmarks/tasks.py [--rows 100000,1000000,10000000] [--tasks 10000] [--explain]

Starts a PostgreSQL in a temporary folder, and five workers twice: over a history that grows, and
over a short one. Prints the figures of the first beside those of the second, measured by turns;
and posting beside an empty route.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import LiteralString

import httpx
import orjson
import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import ceilings, clients
from benchmarks.delays import posted
from benchmarks.drain import drained, service
from benchmarks.explain import plans
from benchmarks.figures import Figure, centiles, say
from benchmarks.pages import make_days
from tests.system.facts import rows as ask
from tests.system.gunicorns import Instance, server_of

_FILL: LiteralString = """
    INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
        finished_at, outcome, closing, name, args, priority, failures)
    SELECT uuid7(at), 'noop', 1, gen_random_uuid(), 0, 'host:1', at, at, at + interval '5 ms',
        CASE WHEN n %% (%(rows)s / 100) = 0 THEN 'failed' ELSE 'completed' END, true, 'task', '{}',
        0, 0
    FROM (SELECT n, now() - interval '10 min' - (n * interval '29 days' / %(rows)s) AS at
        FROM generate_series(1, %(rows)s) AS n) AS firing
    """
_LATER = {"name": "later", "kind": "noop", "run_at": "2999-01-01T00:00:00Z"}
_SECONDS = 4.0  # of posting
_TURNS = 3  # of what is compared, since the machine's speed drifts
_BATCH = 10_000
_FEW = 2_000
"""Rows of the short history: there are pages in it, and what failed fills one, as in the others."""
_Found = dict[tuple[str, str], float]  # by name and unit


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", default="10000000", help="of history, each at least the last")
    parser.add_argument("--tasks", type=int, default=10_000, help="to drain in each turn")
    parser.add_argument("--requests", type=int, default=300, help="of each sort in each turn")
    parser.add_argument("--explain", action="store_true", help="print the plans as well")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
        service(server, Path(folder), {}) as (instance, url),
        service(server, Path(folder), {}) as (fresh, fresh_url),
        ceilings.empty_route(Path(folder)) as empty,
    ):
        _fill(fresh_url, _FEW)
        there = 0
        for rows in map(int, options.rows.split(",")):
            _fill(url, rows - there)
            there = rows
            both = ((instance, url), (fresh, fresh_url))
            turns = [_figures(both, options.tasks, options.requests) for _ in range(_TURNS)]
            for name, unit in turns[0][0]:
                long, few = (median(turn[at][name, unit] for turn in turns) for at in (0, 1))
                say(Figure(f"{name}, {rows:,} rows", long, unit, few, f"with {_FEW:,} rows"))
            if options.explain:
                plans(url)
        rates = [(_rate(empty.port), _posting(instance.port, url)) for _ in range(_TURNS)]
        top, again = (median(of) for of in zip(*rates, strict=True))
        say(Figure("POST /tasks, 64 connections", again, "1/s", top, "the empty route"))
        rate = ceilings.inserted(url, 100_000)
        batch = _batches(instance, url)
        say(Figure("POST /tasks/batch of 10,000", batch, "tasks/s", rate, "the bare INSERT"))
        batch = _batches_of_two(instance, url)
        of = "the bare INSERT"
        say(Figure("POST /tasks/batch of 10,000, two clients", batch, "tasks/s", rate, of))


def _fill(url: str, rows: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        if rows > 0:
            make_days(connection)
            begun = time.perf_counter()
            connection.execute(_FILL, {"rows": rows})
            print(f"filled in {time.perf_counter() - begun:.0f} s")
        connection.execute("VACUUM ANALYZE history")
        connection.execute("VACUUM ANALYZE run")
        connection.execute("CHECKPOINT")


def _figures(both: Sequence[tuple[Instance, str]], tasks: int, requests: int) -> list[_Found]:
    """Return what is measured at each of two lengths of the history."""
    each: list[_Found] = []
    for instance, url in both:
        half, most = centiles(posted(instance, url, requests))
        each.append(
            {
                ("a task after its commit, p50", "ms"): 1000 * half,
                ("a task after its commit, p99", "ms"): 1000 * most,
                ("drain", "tasks/s"): tasks / drained(instance, url, tasks).seconds,
                ("POST /tasks, 64 connections", "1/s"): _posting(instance.port, url),
            }
        )
    for named in zip(*(_paths(instance, url) for instance, url in both), strict=True):
        asks = [
            partial(instance.http.get, path)
            for (instance, _), (_, path) in zip(both, named, strict=True)
        ]
        took = [[_timed(ask) for ask in asks] for _ in range(requests)]  # one after the other
        for found, (name, _), times in zip(each, named, zip(*took, strict=True), strict=True):
            found[f"{name}, p50", "ms"], found[f"{name}, p99", "ms"] = centiles(times)
    return each


def _paths(instance: Instance, url: str) -> Iterator[tuple[str, str]]:
    """Yield what is asked for, by its name: at both ends of the history and in between."""
    # Of those that are over: what waits is told with its reason, which takes twice as long.
    last = instance.get("/tasks?limit=1&status=3")[0]["task_id"]
    [(place,)] = ask(url, "SELECT uuid7(now() - interval '14 days')")
    older = instance.get(f"/tasks?limit=1&status=3&cursor={place}")
    middle = older[0]["task_id"] if older else last
    yield "GET /tasks/{id}, newest", f"/tasks/{last}"
    yield "GET /tasks/{id}, from the middle", f"/tasks/{middle}"
    yield "GET /tasks", "/tasks"
    yield "GET /tasks?status=4", "/tasks?status=4"
    yield "GET /tasks, page in the middle", f"/tasks?cursor={middle}"
    yield "GET /jobs", "/jobs"
    yield "GET /health, for comparison", "/health"


def _posting(port: int, url: str) -> float:
    """Return the tasks a second that 64 connections post, one at a time each."""
    found = _rate(port)
    _forget(url)
    return found


def _rate(port: int) -> float:
    return clients.rate(port, "/tasks", orjson.dumps(_LATER), _SECONDS)


def _batches(instance: Instance, url: str) -> float:
    """Return the tasks a second of batches, one after the other."""
    took = []
    for _ in range(7):
        took.append(_timed(lambda: _post_batch(instance.http)))
        _forget(url)
    return 1000 * _BATCH / median(took)


def _batches_of_two(instance: Instance, url: str) -> float:
    """Return the tasks a second of batches that two clients post, each one after the other."""
    each = 5
    two = [httpx.Client(base_url=instance.http.base_url, timeout=30) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        took = _timed(lambda: list(threads.map(_post_batch, two * each)))
    for client in two:
        client.close()
    _forget(url)
    return 1000 * len(two) * each * _BATCH / took


def _post_batch(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    content = orjson.dumps([_LATER] * _BATCH)
    client.post("/tasks/batch", content=content, headers=headers).raise_for_status()


def _forget(url: str) -> None:
    ask(url, "DELETE FROM run WHERE due_at > '2998-01-01'")
    ask(url, "VACUUM run")


def _timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    main()
