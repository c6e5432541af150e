"""Compare HTTP beside jobs that hold the interpreter's lock: in processes of their own, or not.

Starts a gunicorn with one worker, and asks it for `/health` over one connection: alone, beside one
isolated hog and ten of them, and beside one in a thread, by turns, so that a noisy machine is noisy
to all. A hog turns numbers into text, C code that never lets go of the lock: about 50 ms at a
time, and again.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import orjson

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.figures import Figure, say

ROOT = Path(__file__).parent.parent
JOBS = """
import sys, time
from cluster import Run, task

sys.set_int_max_str_digits(0)
NUMBER = 7**60_000

def hold(run: Run, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        str(NUMBER)
        run.check()

@task(isolation="process")
def apart(run: Run, seconds: float) -> None:
    hold(run, seconds)

@task()
def thread(run: Run, seconds: float) -> None:
    hold(run, seconds)
"""
HOG_SECONDS = 3600
STARTED_SECONDS = 3  # for the hog's process to be up


class Service:
    """A running instance."""

    def __init__(self, port: int) -> None:
        self._http = HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        """Send a request; return the answer's body."""
        content = None if body is None else orjson.dumps(body)
        self._http.request(method, path, content, {"Content-Type": "application/json"})
        return self._http.getresponse().read()

    def percentiles(self, requests: int) -> tuple[float, float]:
        """Return p50 and p99, in milliseconds, of that many requests one after the other."""
        times = []
        for _ in range(requests):
            begun = time.perf_counter()
            self.ask("GET", "/health")
            times.append((time.perf_counter() - begun) * 1000)
        times.sort()
        return times[len(times) // 2], times[len(times) * 99 // 100]

    @contextmanager
    def hogs(self, kind: str, count: int = 1) -> Iterator[None]:
        """Have so many hogs of a kind for the block."""
        body = {"name": kind, "kind": kind, "args": {"seconds": HOG_SECONDS}}
        tasks = [orjson.loads(self.ask("POST", "/tasks", body))["task_id"] for _ in range(count)]
        up_at = time.monotonic() + STARTED_SECONDS * (1 + count / 5)
        while time.monotonic() < up_at:
            self.ask("GET", "/health")  # a connection that rests is closed after five seconds
            time.sleep(0.5)
        yield
        for task in tasks:
            self.ask("DELETE", f"/tasks/{task}")
        for task in tasks:
            while not orjson.loads(self.ask("GET", f"/tasks/{task}"))["finished_at"]:
                time.sleep(0.1)


@contextmanager
def service() -> Iterator[Service]:
    """Start an instance with one worker and the hogs; end it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        (Path(folder) / "hogs.py").write_text(JOBS)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        env = {"PYTHONPATH": folder, "RONIN_JOBS": "hogs", "PORT": str(port)}
        env |= {"DATABASE_URL": "", "RONIN_DATA": folder, "WEB_CONCURRENCY": "1"}
        log = Path(folder) / "log"
        with log.open("wb") as output:
            gunicorn = subprocess.Popen(
                [Path(sys.executable).parent / "gunicorn", "-c", "gunicorn.conf.py"],
                cwd=ROOT,
                env={**os.environ, **env},
                stdout=output,
                stderr=output,
            )
        try:
            yield _ready(port)
        except BaseException:
            sys.stderr.write(log.read_text(errors="replace")[-4000:])
            raise
        finally:
            gunicorn.terminate()
            gunicorn.wait(60)


def _ready(port: int) -> Service:
    for _ in range(600):
        try:
            found = Service(port)
            found.ask("GET", "/health")
        except OSError:
            time.sleep(0.1)
        else:
            time.sleep(STARTED_SECONDS)
            return found
    sys.exit("the service did not start")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (%(default)s)")
    parser.add_argument("--requests", type=int, default=5000, help="in each turn (%(default)s)")
    parser.add_argument(
        "--in-thread", type=int, default=100, help="beside the thread (%(default)s)"
    )
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]]
    found = {"idle": [], "apart": [], "ten apart": [], "thread": []}
    with service() as running:
        for _ in range(options.rounds):
            found["idle"].append(running.percentiles(options.requests))
            with running.hogs("apart"):
                found["apart"].append(running.percentiles(options.requests))
            with running.hogs("apart", 10):
                found["ten apart"].append(running.percentiles(options.requests))
            with running.hogs("thread"):
                found["thread"].append(running.percentiles(options.in_thread))
    for kind, each in found.items():
        p50, p99 = (median(figures) for figures in zip(*each, strict=True))
        turns = ", ".join(f"{figures[1]:.2f}" for figures in each)
        print(f"{kind:>9}: p50 {p50:8.2f} ms   p99 {p99:8.2f} ms   (p99 by turn: {turns})")
    ratios = {
        kind: median(here[1] / idle[1] for here, idle in zip(each, found["idle"], strict=True))
        for kind, each in found.items()
    }
    say(Figure("HTTP p99 beside an isolated hog", ratios["apart"], "× idle"))
    say(Figure("HTTP p99 beside ten isolated hogs", ratios["ten apart"], "× idle"))
    say(Figure("HTTP p99 beside the same in a thread", ratios["thread"], "× idle"))


if __name__ == "__main__":
    main()
