"""Measure how fast no-op tasks that wait are performed, beside the ceilings and the peers.

    python benchmarks/drain.py [--tasks 10000] [--rounds 3] [--peers procrastinate,pgqueuer]

Starts a PostgreSQL in a temporary folder. Everybody has five processes, which are up and idle when
all tasks are put in at once; the time is from the first call of a task's function until nothing is
left in the database. Bare loops and `pgbench` are measured before and after.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import LiteralString

import orjson

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import ceilings
from benchmarks.figures import Figure, say
from benchmarks.peers.driver import Peer, peers
from tests.eventually import eventually
from tests.system.facts import database, rows
from tests.system.gunicorns import Instance, gunicorn, job_module, server_of

WORKERS = 5
BATCHING = ("50", "200")
"""RONIN_MAX_CONCURRENCY: the batch of the bare loop, and what is best for tasks that do nothing."""
_MODULE = """
from cluster import task


@task(name="noop", retry_delay=0)
def noop() -> None:
    '''Do nothing.'''
"""
_TOOK: LiteralString = """
    SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8
    FROM history WHERE job = 'noop' AND finished_at > %(since)s
    """


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3, help="of each; the median is told")
    parser.add_argument("--peers", default="", help="names, comma separated, or all")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
    ):
        measure(server, Path(folder), options.tasks, options.rounds, peers(options.peers))


def measure(server: str, folder: Path, tasks: int, rounds: int, others: list[Peer]) -> None:
    """Print the figures, with their ratios to the bare loop."""
    with database(server) as url:
        loops = [ceilings.drained(url, tasks * 5) for _ in range(rounds)]
        loop = say(Figure("bare loops, batches of 50", median(loops), "tasks/s")).value
        raw = [ceilings.drained(url, tasks * 5, by_pgbench=True) for _ in range(rounds)]
        say(
            Figure(
                "claim and finish in one statement, by pgbench",
                median(raw),
                "tasks/s",
                loop,
                "the bare loops",
            )
        )
    for slots in ("", *BATCHING):
        settings = {"RONIN_MAX_CONCURRENCY": slots} if slots else {}
        with service(server, folder, settings) as (instance, url):
            rates = [tasks / drained(instance, url, tasks) for _ in range(rounds)]
        name = f"Ronin, RONIN_MAX_CONCURRENCY={slots}" if slots else "Ronin"
        say(Figure(f"drain, {name}", median(rates), "tasks/s", loop, "the bare loops"))
    for peer in others:
        with database(server) as url:
            rates = list(peer.rates(url, folder, tasks, rounds))
        label = f"drain, {peer.name}, {peer.profile}"
        say(Figure(label, median(rates), "tasks/s", loop, "the bare loops", peer.note))


@contextmanager
def service(server: str, folder: Path, settings: dict[str, str]) -> Iterator[tuple[Instance, str]]:
    """Run five workers that know one kind of tasks, which does nothing."""
    env = {**job_module(folder, _MODULE), **settings, "WEB_CONCURRENCY": str(WORKERS)}
    with database(server) as url, gunicorn(url, folder, env=env) as instance:
        eventually(lambda: len(instance.get("/workers")) == WORKERS, within=60)
        eventually(lambda: rows(url, "SELECT 1 FROM opening WHERE opens_at < now()"))
        yield instance, url


def drained(instance: Instance, url: str, tasks: int) -> float:
    """Return the seconds from the first start to the last end of a backlog."""
    headers = {"Content-Type": "application/json"}
    rows(url, "UPDATE job SET paused = true WHERE name = 'noop'")
    for begin in range(0, tasks, 10_000):
        body = orjson.dumps([{"name": "x", "kind": "noop"}] * min(10_000, tasks - begin))
        posted = instance.http.post("/tasks/batch", content=body, headers=headers)
        posted.raise_for_status()
    rows(url, "VACUUM ANALYZE run")
    [(since,)] = rows(url, "UPDATE job SET paused = false WHERE name = 'noop' RETURNING now()")
    eventually(lambda: not rows(url, "SELECT 1 FROM run WHERE due_at <= now() LIMIT 1"), within=600)
    return float(rows(url, _TOOK, since=since)[0][0])


if __name__ == "__main__":
    main()
