"""Measure how fast no-op tasks are put in and performed, beside the ceilings and the peers.

    python benchmarks/drain.py [--tasks 10000] [--rounds 3] [--peers procrastinate,pgqueuer]

Starts a PostgreSQL in a temporary folder. Everybody has five processes, which are up and idle when
all tasks are put in at once; the time is from the first call of a task's function until nothing is
left in the database. All are measured by turns, and started anew for each. The bare loops are given
as many tasks, and five times as many, to show what a longer backlog brings. Ronin's tasks come as
one batch over HTTP, the peers' by the bulk call of a process that is connected for it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import LiteralString, NamedTuple

import orjson
import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import ceilings
from benchmarks.figures import Figure, say
from benchmarks.peers.driver import Peer, PeerError, Turn, Turns, peers
from tests.eventually import eventually
from tests.system.facts import database, rows
from tests.system.gunicorns import Instance, gunicorn, job_module, server_of

WORKERS = 5
_LOOPS = "bare loops, batches of 50"
_RONIN = "drain, Ronin"
BATCHING = ("50", "400")
"""RONIN_MAX_CONCURRENCY: the batch of the bare loop, and what is best for tasks that do nothing."""
_MODULE = """
from cluster import task


@task(name="noop", retry_delay=0)
def noop() -> None:
    '''Do nothing.'''
"""
_LEFT: LiteralString = "SELECT 1 FROM run WHERE due_at <= now() LIMIT 1"
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
    """Print the figures, with their ratios to the bare loop.

    By turns, each once a round, because the speed of a machine drifts within minutes.
    """
    found: dict[str, list[Turn]] = {}
    named = {f"drain, {peer.name}, {peer.profile}": peer for peer in others}
    with ExitStack() as stack:
        own = stack.enter_context(database(server))
        contenders = {
            _LOOPS: _loops(own, tasks),
            "bare loops, five times the tasks": _loops(own, tasks * 5),
            "claim and finish in one statement, by pgbench": _loops(
                own, tasks * 5, by_pgbench=True
            ),
            _RONIN: _ronin(server, folder, tasks, {}),
        }
        for slots in BATCHING:
            setting = {"RONIN_MAX_CONCURRENCY": slots}
            name = f"{_RONIN}, RONIN_MAX_CONCURRENCY={slots}"
            contenders[name] = _ronin(server, folder, tasks, setting)
        for name, peer in named.items():
            url = stack.enter_context(database(server))
            contenders[name] = stack.enter_context(closing(peer.turns(url, folder, tasks)))
        for number in range(1, rounds + 1):
            for name, turns in list(contenders.items()):
                try:
                    turn = next(turns)
                except PeerError as error:  # the others are measured all the same
                    print(f"left out: {name}: {error}", flush=True)
                    del contenders[name]
                    found.pop(name, None)
                    continue
                found.setdefault(name, []).append(turn)
                print(f"round {number}: {turn.drained:10,.0f}  {name}", file=sys.stderr)
    notes = {name: peer.note for name, peer in named.items() if name in contenders}
    _say(found, notes)


def _say(found: dict[str, list[Turn]], notes: dict[str, str]) -> None:
    """Print the medians, and at last Ronin's best beside the best of the peers."""
    drained = {name: median(turn.drained for turn in turns) for name, turns in found.items()}
    put_in = {
        name: median(turn.posted for turn in turns if turn.posted)
        for name, turns in found.items()
        if any(turn.posted for turn in turns)
    }
    for name, rate in drained.items():
        ceiling = None if name == _LOOPS else drained[_LOOPS]
        say(Figure(name, rate, "tasks/s", ceiling, "the bare loops", notes.get(name, "")))
    for name, rate in put_in.items():
        say(Figure(name.replace("drain", "put in at once"), rate, "tasks/s"))
    for what, rates in (("drain", drained), ("put in at once", put_in)):
        peer = max(notes, key=lambda name: rates.get(name, 0.0), default=None)
        if peer and peer in rates:
            best = max(rate for name, rate in rates.items() if name.startswith(_RONIN))
            label = f"{what}, Ronin at its best against the best peer"
            say(Figure(label, best, "tasks/s", rates[peer], peer.removeprefix("drain, ")))


def _loops(url: str, tasks: int, *, by_pgbench: bool = False) -> Turns:
    while True:
        yield Turn(ceilings.drained(url, tasks, by_pgbench=by_pgbench))


def _ronin(server: str, folder: Path, tasks: int, settings: dict[str, str]) -> Turns:
    """Yield the no-ops a second of a service that has just been started, as peers are."""
    while True:
        with service(server, folder, settings) as (instance, url):
            took = drained(instance, url, tasks)
        yield Turn(tasks / took.seconds, tasks / took.posting)


@contextmanager
def service(server: str, folder: Path, settings: dict[str, str]) -> Iterator[tuple[Instance, str]]:
    """Run five workers that know one kind of tasks, which does nothing."""
    env = {**job_module(folder, _MODULE), **settings, "WEB_CONCURRENCY": str(WORKERS)}
    with database(server) as url, gunicorn(url, folder, env=env) as instance:
        eventually(lambda: len(instance.get("/workers")) == WORKERS, within=60)
        eventually(lambda: rows(url, "SELECT 1 FROM opening WHERE opens_at < now()"))
        yield instance, url


class Drained(NamedTuple):
    """How long a backlog took.

    Attributes:
        seconds: from the first start to the last end.
        posting: seconds that it took to put it in, over HTTP.
    """

    seconds: float
    posting: float


def drained(instance: Instance, url: str, tasks: int) -> Drained:
    """Put a backlog in, have it performed, and return how long that took."""
    headers = {"Content-Type": "application/json"}
    rows(url, "UPDATE job SET paused = true WHERE name = 'noop'")
    bodies = [
        orjson.dumps([{"name": "x", "kind": "noop"}] * min(10_000, tasks - begin))
        for begin in range(0, tasks, 10_000)
    ]
    began = time.perf_counter()
    for body in bodies:
        posted = instance.http.post("/tasks/batch", content=body, headers=headers)
        posted.raise_for_status()
    posting = time.perf_counter() - began
    rows(url, "VACUUM ANALYZE run")
    [(since,)] = rows(url, "UPDATE job SET paused = false WHERE name = 'noop' RETURNING now()")
    with psycopg.connect(url, autocommit=True) as watch:  # one, for each takes 10 ms of a core
        eventually(lambda: not watch.execute(_LEFT).fetchone(), within=600)
    return Drained(float(rows(url, _TOOK, since=since)[0][0]), posting)


if __name__ == "__main__":
    main()
