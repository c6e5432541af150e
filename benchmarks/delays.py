"""Measure how soon work starts: a task after its commit, a task after its time, a job's firing.

    python benchmarks/delays.py [--tasks 300] [--seconds 60]

Starts a PostgreSQL and five idle workers in a temporary folder. All moments are the database's.
"""

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import ceilings
from benchmarks.figures import Figure, centiles, say
from tests.eventually import eventually
from tests.system.facts import database, now, rows
from tests.system.gunicorns import Instance, gunicorn, job_module, server_of

WORKERS = 5
_MODULE = """
from cluster import job, task


@task(name="noop")
def noop() -> None:
    '''Do nothing.'''


@job(name="tick", every="1s")
def tick() -> None:
    '''Do nothing.'''
"""
_APART = timedelta(milliseconds=37)  # of due times, so that they fall into every part of a second
_PAUSE_SECONDS = 0.02
"""Between a task and the question what has become of it."""


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", type=int, default=300, help="of each sort")
    parser.add_argument("--seconds", type=int, default=60, help="of a job that fires every second")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
    ):
        measure(server, Path(folder), options.tasks, options.seconds)


def measure(server: str, folder: Path, tasks: int, seconds: int) -> None:
    """Print the figures."""
    settings = job_module(folder, _MODULE)
    with database(server) as url, gunicorn(url, folder, env=settings) as instance:
        eventually(lambda: len(instance.get("/workers")) == WORKERS, within=60)
        time.sleep(5)  # the opening, and what is done once at the start
        began = now(url)
        starts, commits = posted(instance, url, tasks), ceilings.committed(url, tasks)
        _say("a task after its commit, idle cluster", starts, commits)
        _say("a task after its due time", _timed(instance, url, tasks))
        # A second between two looks: each is a connection, and ten milliseconds of a core.
        ended = began + timedelta(seconds=seconds)
        eventually(lambda: now(url) >= ended, within=2 * seconds, every=1)
        _say("a job's firing, every second", _delays(url, "tick", began))


def _say(name: str, seconds: list[float], commits: list[float] | None = None) -> None:
    of = "a bare insert and its commit" if commits else ""
    bounds = centiles(commits) if commits else (None, None)
    for centile, value, bound in zip(("p50", "p99"), centiles(seconds), bounds, strict=True):
        ceiling = 1000 * bound if bound else None
        say(Figure(f"{name}, {centile}", 1000 * value, "ms", ceiling, of))


def posted(instance: Instance, url: str, count: int) -> list[float]:
    """Post one task after the other, each once the one before is over; return their delays.

    In seconds, from when the task was asked for, which is before its commit, until its start.
    Nobody asks for the task while it starts: an idle cluster has nothing else to do.
    """
    since = now(url)
    for _ in range(count):
        task = instance.http.post("/tasks", json={"name": "x", "kind": "noop"}).json()["task_id"]
        path = f"/tasks/{task}"
        time.sleep(_PAUSE_SECONDS)
        eventually(lambda path=path: instance.get(path)["status"] == 3)  # type: ignore[misc] # bound at once
    return _delays(url, "noop", since)


def _timed(instance: Instance, url: str, count: int) -> list[float]:
    since = now(url)
    first = datetime.now(UTC) + timedelta(seconds=3)
    tasks = [
        {"name": "x", "kind": "noop", "run_at": (first + place * _APART).isoformat()}
        for place in range(count)
    ]
    instance.http.post("/tasks/batch", json=tasks).raise_for_status()
    within = 60 + count * _APART.total_seconds()
    eventually(lambda: len(_delays(url, "noop", since)) == count, within=within, every=0.5)
    return _delays(url, "noop", since)


def _delays(url: str, job: str, since: object) -> list[float]:
    """Return the seconds from when each run was due until it started."""
    found = rows(
        url,
        "SELECT extract(epoch FROM started_at - due_at)::float8 FROM history"
        " WHERE job = %(job)s AND due_at > %(since)s AND started_at IS NOT NULL",
        job=job,
        since=since,
    )
    return [row[0] for row in found]


if __name__ == "__main__":
    main()
