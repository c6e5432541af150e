"""Let many tasks pass through the live table, and watch whether it grows.

    python benchmarks/churn.py [--tasks 1000000] [--processes 4]

Starts a PostgreSQL in a temporary folder. Each process enqueues, claims, beats and finishes by
the engine's own statements, and sends one finish in a hundred once more under a wrong token.
Prints, ten times on the way, the sizes of `run` and its indexes, dead rows, the share of updates
that were HOT, and the refused writes.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))

from cluster import database
from cluster.ending import Ending, ending_of
from cluster.job import Job
from cluster.migrate import migrate
from cluster.perform import Result
from cluster.process import Identity
from cluster.run import Claim
from cluster.store import jobs, leases, looks, runs, tasks
from tests.system.facts import database as empty_database
from tests.system.gunicorns import server_of

_BATCH = 200
_STATE = """
    SELECT (SELECT count(*) FROM history WHERE closing), pg_relation_size('run'),
        pg_indexes_size('run'), n_dead_tup, n_tup_upd, n_tup_hot_upd, autovacuum_count,
        (SELECT count(*) FROM history WHERE outcome = 'fenced'),
        (SELECT count(*) FROM (SELECT run_id FROM history WHERE closing
            GROUP BY 1 HAVING count(*) > 1) twice)
    FROM pg_stat_user_tables WHERE relname = 'run'
    """


def _nothing() -> None:
    pass


_KIND = Job(name="noop", function=_nothing, spread=0)


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", type=int, default=1_000_000, help="tasks in all")
    parser.add_argument("--processes", type=int, default=4, help="workers")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
        empty_database(server) as url,
    ):
        migrate(url)
        share = options.tasks // options.processes // _BATCH
        begun = time.perf_counter()
        workers = [
            multiprocessing.Process(target=_work, args=(url, number, share))
            for number in range(options.processes)
        ]
        for worker in workers:
            worker.start()
        _watch(url, options.tasks, workers)
        seconds = time.perf_counter() - begun
        print(f"{options.tasks / seconds:,.0f} tasks/s")
        time.sleep(65)  # one turn of the autovacuum launcher
        _print(url)


def _watch(url: str, total: int, workers: list[multiprocessing.Process]) -> None:
    print("     tasks   table  indexes     dead  updates   HOT  vacuums  refused  twice")
    shown = 0
    while any(worker.is_alive() for worker in workers):
        time.sleep(2)
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM history WHERE closing").fetchone()
        if row and row[0] >= shown:
            _print(url)
            shown += total // 10
    _print(url)


def _print(url: str) -> None:
    with psycopg.connect(url) as connection:
        row = connection.execute(_STATE).fetchone()
    assert row  # noqa: S101 - the table is there
    done, table, indexes, dead, updates, hot, vacuums, refused, twice = row
    print(
        f"{done:>10,} {table / 2**20:>5.1f} M {indexes / 2**20:>6.1f} M {dead:>8,} {updates:>8,}"
        f" {hot / max(updates, 1):>5.0%} {vacuums:>8} {refused:>8,} {twice:>6}",
        flush=True,
    )


def _work(url: str, number: int, batches: int) -> None:
    with database.pool(url, "ronin engine", 1, session=database.ONE_PLAN) as pool:
        jobs.declare(pool, [_KIND])
        worker = leases.register(pool, f"churn:{number}", Identity(None, number, 1), ["noop"], 3600)
        with pool.connection() as connection:
            connection.execute("UPDATE opening SET opens_at = '-infinity'")
        ask = looks.Ask(worker, None, ["noop"], 0, _BATCH, 0.0)
        ended: list[Ending] = []
        for _ in range(batches):
            tasks.enqueue_many(pool, [{"kind": "noop", "name": "x"}] * _BATCH)
            ended = _turn(pool, ask, ended)
        while ended:
            ended = _turn(pool, ask, ended)


def _turn(pool: database.Pool, ask: looks.Ask, ended: list[Ending]) -> list[Ending]:
    """Finish what the turn before claimed, claim anew, and tell some progress."""
    stale = [each._replace(token=uuid4()) for each in ended[::100]]
    _, look = runs.turn(pool, ended, ask)
    if stale:
        runs.finish(pool, stale)
    leases.beat(pool, UUID(str(ask.worker)), [(claim.token, 0.5) for claim in look.claims])
    return [_ended(claim, look) for claim in look.claims]


def _ended(claim: Claim, look: looks.Look) -> Ending:
    return ending_of(claim, _KIND, Result("completed"), look.now)


if __name__ == "__main__":
    main()
