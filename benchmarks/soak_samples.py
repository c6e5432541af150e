"""The samples of a soak: what its processes and its database take at one moment.

A sample is a row of figures by `what/of whom`. Those that only grow (seconds of processor time,
rows written) are kept as they are; who reads them takes differences.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import quantiles
from typing import Any, LiteralString

import psutil
import psycopg

from benchmarks.soak_load import Load
from tests.system.gunicorns import Instance

Sample = dict[str, float]

MINUTE = 60.0
_MB = 1e6
_FIGURES = "p50", "p99"

_CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
        AND pid <> pg_backend_pid()
    """
_SIZES = """
    SELECT regexp_replace(c.relname, '^history_(\\d+|default)$', 'history'),
        sum(CASE WHEN c.relname = 'run' THEN pg_relation_size(c.oid)
            ELSE pg_total_relation_size(c.oid) END)::float8
    FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace
        AND (c.relkind = 'r' OR i.indrelid = 'run'::regclass)
        AND c.relname !~ '^_?yoyo'
    GROUP BY 1 ORDER BY 1
    """
"""Of each table with its indexes; of `run` apart; the days of history together."""
_ROWS = """
    SELECT regexp_replace(relname, '^history_(\\d+|default)$', 'history'),
        sum(n_dead_tup)::float8, sum(n_tup_ins)::float8
    FROM pg_stat_user_tables WHERE schemaname = 'public' AND relname !~ '^_?yoyo'
    GROUP BY 1 ORDER BY 1
    """
_DELAYS: LiteralString = """
    SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
        ORDER BY 1000 * extract(epoch FROM started_at - due_at)::float8)
    FROM history
    WHERE job = %(job)s AND attempt = 1 AND started_at IS NOT NULL
        AND finished_at > now() - interval '1 minute'
    """


class Sampler:
    """Looks at one instance and its database.

    Args:
        instance: whose workers.
        connection: to its database, in autocommit mode; not counted.
        server: folder of the PostgreSQL.
        load: whose answers are counted.
    """

    def __init__(
        self, instance: Instance, connection: psycopg.Connection[Any], server: Path, load: Load
    ) -> None:
        self._connection = connection
        self._load = load
        self._master = psutil.Process(instance.process.pid)
        pid = int((server / "pg" / "postmaster.pid").read_text().split("\n")[0])
        self._postmaster = psutil.Process(pid)
        self.workers = self._master.children()
        self.wrong: dict[str, int] = {}
        self.by_minute = [
            f"{what} {which}"
            for what in ("start ms/task", "start ms/firing", "answer ms/request")
            for which in _FIGURES
        ]
        self._begun = self._minute_ends = time.monotonic()
        self._answers: list[float] = []

    def look(self) -> Sample:
        """Return what there is now; once a minute with the delays of the minute before."""
        sample: Sample = {"seconds": round(time.monotonic() - self._begun, 1)}
        sample["memory/master"] = _shared_out(self._master)
        sample["replaced/workers"] = len(set(self.workers) - set(self._master.children()))
        for number, worker in enumerate(self.workers, 1):
            with suppress(psutil.NoSuchProcess):
                sample.update(_of_worker(worker, f"worker {number}"))
        sample.update(self._of_server())
        sample.update(self._of_database())
        sample.update(self._of_clients())
        return sample

    def _of_server(self) -> Sample:
        """Return its processes' memory without what they share, and all its processor time."""
        own, used = [0.0], 0.0
        for process in self._postmaster.children():
            with suppress(psutil.Error):
                used += sum(process.cpu_times()[:2])
                own.append(round(process.memory_full_info().uss / _MB, 3))
        return {
            "backends/PostgreSQL": round(sum(own), 3),
            "backends/the largest": max(own),
            "cpu/PostgreSQL": round(used + sum(self._postmaster.cpu_times()[:4]), 2),
        }

    def _of_database(self) -> Sample:
        execute = self._connection.execute
        [(connections,)] = execute(_CONNECTIONS).fetchall()
        [(waiting,)] = execute("SELECT count(*) FROM run").fetchall()
        sample: Sample = {"connections/all": connections, "live/run": waiting}
        sample.update({f"bytes/{name}": size for name, size in execute(_SIZES).fetchall()})
        for name, dead, written in execute(_ROWS).fetchall():
            sample[f"dead/{name}"], sample[f"written/{name}"] = dead, written
        return sample

    def _of_clients(self) -> Sample:
        told = self._load.take()
        self._answers += told.seconds
        for words, times in told.wrong.items():
            self.wrong[words] = self.wrong.get(words, 0) + times
        sample: Sample = {
            "requests/answered": len(told.seconds),
            "requests/wrong": told.wrong.total(),
        }
        if time.monotonic() >= self._minute_ends + MINUTE:
            self._minute_ends = time.monotonic()
            sample.update(self._of_minute())
        return sample

    def _of_minute(self) -> Sample:
        sample: Sample = {}
        for name, job in (("task", "quick"), ("firing", "each-second-0")):
            [(found,)] = self._connection.execute(_DELAYS, {"job": job}).fetchall()
            sample.update(_named(f"start ms/{name}", found or ()))
        if len(self._answers) > 1:
            found = quantiles(self._answers, n=100)
            sample.update(_named("answer ms/request", (1000 * found[49], 1000 * found[98])))
        self._answers = []
        return sample


def _named(name: str, figures: Sequence[float]) -> Sample:
    return {f"{name} {which}": round(ms, 2) for which, ms in zip(_FIGURES, figures, strict=False)}


def _of_worker(worker: psutil.Process, name: str) -> Sample:
    return {
        f"memory/{name}": _shared_out(worker),
        f"threads/{name}": worker.num_threads(),
        f"descriptors/{name}": worker.num_fds(),
        f"cpu/{name}": round(sum(worker.cpu_times()[:2]), 2),
    }


def _shared_out(process: psutil.Process) -> float:
    """Return a process's memory in MB, shared pages by their share (PSS)."""
    return round(float(process.memory_full_info().pss) / _MB, 3)


def at_distance(seconds: float) -> Iterator[None]:
    """Come back at even distances, for ever; what is late is left out."""
    due = time.monotonic()
    while True:
        yield
        due += seconds
        while due < time.monotonic():
            due += seconds
        time.sleep(due - time.monotonic())
