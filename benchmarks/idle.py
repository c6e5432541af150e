"""Measure what five workers cost while there is nothing to do: statements, CPU, memory.

    python benchmarks/idle.py [--seconds 60]

Starts a PostgreSQL and five workers that know one kind of tasks and one job that is due next year,
then five with all sample jobs under way.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.figures import Figure, say
from tests.eventually import eventually
from tests.system.facts import database, rows, shares
from tests.system.gunicorns import Instance, gunicorn, job_module, server_of

WORKERS = 5
SETTLE_SECONDS = 15  # the opening, the first minute's counts, and PostgreSQL's own figures
_MODULE = """
from cluster import job, task


@task()
def noop() -> None:
    '''Do nothing.'''


@job(schedule="@yearly")
def seldom() -> None:
    '''Do nothing.'''
"""
_COMMITS = """
    SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()
    """


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
    ):
        measure(server, Path(folder), options.seconds)


def measure(server: str, folder: Path, seconds: float) -> None:
    """Print the figures."""
    with database(server) as url, gunicorn(url, folder, env=job_module(folder, _MODULE)) as idle:
        eventually(lambda: len(idle.get("/workers")) == WORKERS, within=60)
        statements, cpu = _costs(idle, url, seconds)
        say(Figure("idle, statements of all five workers", statements, "1/s"))
        say(Figure("idle, CPU of one worker", 100 * cpu, "%"))
        say(Figure("idle, memory of one worker (PSS)", _memory(idle), "MB"))
    with (
        database(server) as url,
        gunicorn(url, folder, env={"RONIN_SAMPLE_SECONDS": "900"}) as busy,
    ):
        shares(url)
        time.sleep(SETTLE_SECONDS)
        say(Figure("ten jobs under way, memory of one worker (PSS)", _memory(busy), "MB"))


def _costs(instance: Instance, url: str, seconds: float) -> tuple[float, float]:
    """Return the transactions a second, without our own, and the part of a core of one worker."""
    time.sleep(SETTLE_SECONDS)
    workers = list(instance.workers().values())
    before, used, begun = rows(url, _COMMITS)[0][0], _used(workers), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    ours = 1  # the look before; the second one is not counted yet when it reads
    return (rows(url, _COMMITS)[0][0] - before - ours) / took, (
        _used(workers) - used
    ) / took / WORKERS


def _used(workers: list[psutil.Process]) -> float:
    """Return the seconds of CPU that processes have used."""
    return sum(times.user + times.system for times in (each.cpu_times() for each in workers))


def _memory(instance: Instance) -> float:
    """Return the megabytes of a worker, shared pages by their share, on the average."""
    return mean(each.memory_full_info().pss for each in instance.workers().values()) / 1e6


if __name__ == "__main__":
    main()
