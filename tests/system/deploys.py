"""What a deploy does to clients and to runs: visitors at the door, and who has the runs."""

import contextlib
import http.client
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import LiteralString, Self

import psutil

from tests.eventually import eventually
from tests.system.facts import now, rows
from tests.system.gunicorns import Instance

ANSWERED, REFUSED = "answered", "refused"


@dataclass
class Visitors:
    """Clients that come anew for each request, and note what became of it.

    Attributes:
        port: where they go.
        count: how many at once.
        rest: seconds between two visits of one.
        fates: `ANSWERED`, `REFUSED` (nobody listened, so nothing was sent), or what went wrong.
        longest: seconds of the longest visit.
    """

    port: int
    count: int = 3
    rest: float = 0.01
    fates: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(self.count)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def await_answers(self, number: int) -> None:
        """Wait until so many more are answered."""
        before = self.fates[ANSWERED]
        eventually(lambda: self.fates[ANSWERED] >= before + number)

    def _work(self) -> None:
        while not self._stop.wait(self.rest):
            begun = time.monotonic()
            self.fates[self._visit()] += 1
            self.longest = max(self.longest, time.monotonic() - begun)

    def _visit(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.connect()
        except ConnectionRefusedError:
            return REFUSED
        try:
            connection.request("GET", "/users/1")
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        finally:
            connection.close()
        return ANSWERED if answer.status == 200 else str(answer.status)


def gone(*instances: Instance) -> None:
    """Wait until none of their processes is left."""
    for instance in instances:
        eventually(lambda i=instance: not i.processes(), within=60)  # type: ignore[misc] # at once


def handed_over(url: str, ended_at: object, runs: int = 10) -> float:
    """Wait until all runs are under way; return the seconds from a moment until the last began."""
    query: LiteralString = """
        SELECT count(*), extract(epoch FROM max(started_at) - %(at)s)::float8
        FROM run WHERE token IS NOT NULL
        """
    [(_, seconds)] = eventually(
        lambda: [row for row in rows(url, query, at=ended_at) if row[0] == runs], within=40
    )
    return float(seconds)


def longest_pause(url: str) -> float:
    """Return the most seconds that a run waited between an interruption and its next attempt."""
    query: LiteralString = """
        SELECT max(extract(epoch FROM next.started_at - h.finished_at))::float8
        FROM history h JOIN (
            SELECT run_id, attempt, started_at FROM history
            UNION ALL SELECT id, attempt, started_at FROM run WHERE token IS NOT NULL) next
            ON next.run_id = h.run_id AND next.attempt = h.attempt + 1
        WHERE h.outcome = 'interrupted'
        """
    return float(rows(url, query)[0][0])


def uncharged(url: str) -> bool:
    """Tell whether no run has been charged with a failure or a crash."""
    return not rows(url, "SELECT job FROM run WHERE failures > 0 OR crashes > 0")


def terminate(url: str, instance: Instance) -> object:
    """Tell an instance to end; return when its last worker had, by the database's clock."""
    workers = list(instance.workers().values())
    instance.signal(signal.SIGTERM)
    ended_at = end_of(url, *workers)
    instance.wait(60)
    gone(instance)
    return ended_at


def end_of(url: str, *processes: psutil.Process) -> object:
    """Wait until the processes have ended; return when they had, by the database's clock."""
    eventually(lambda: not any(map(_runs, processes)), within=60, every=0.01)
    return now(url)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def note(**seconds: float) -> None:
    """Print measured seconds, for who looks with `pytest -s`."""
    sys.stdout.write("  ".join(f"{name} {each:.2f} s" for name, each in seconds.items()) + "\n")
