"""Compare changes of a balance with and without viewers of the live page.

    python benchmarks/viewers.py [--viewers 200] [--rounds 5] [--seconds 8]

Starts a PostgreSQL and five workers in a temporary folder, all sample jobs under way. Clients post
to one account as fast as they are answered; in every second phase, viewers look as the page's
script does: with the tag of what they have, and again when the server says. Prints each phase, and
the part of the throughput that is left with them. Ends with status 1 if it is less than 0.90.
"""

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.clients import CLOSED, Connection, header, post, status
from benchmarks.figures import Figure, say
from tests.system.facts import database, shares
from tests.system.gunicorns import gunicorn, server_of

LEAST = 0.90
CHANGE = ("/users/1/balance", b'{"amount": 1}')
SETTLE_SECONDS = 1.5  # at the begin of a phase, not counted
SAMPLE_SECONDS = "900"  # the jobs are under way all the time, and tell their progress


def look(
    port: int,
    viewers: int,
    shown: Event,
    polls: "Synchronized[int]",
    unchanged: "Synchronized[int]",
) -> None:
    """Look at the live page like so many browsers, while it is wanted."""
    poller = DefaultSelector()
    resting: list[Connection] = []
    while True:
        shown.wait()
        for _ in range(viewers - len(poller.get_map()) - len(resting)):
            connection = Connection(port)
            connection.due = time.monotonic() + random.random()
            resting.append(connection)
        _send(resting, poller)
        soonest = min((each.due for each in resting), default=time.monotonic() + 1)
        for key, _ in poller.select(max(soonest - time.monotonic(), 0)):
            viewer: Connection = key.data
            head = viewer.receive()
            if head is None:
                continue
            poller.unregister(key.fileobj)
            resting.append(viewer)
            if head is CLOSED:
                continue
            polls.value += 1
            unchanged.value += status(head) == 304
            viewer.etag = header(head, b"etag")
            viewer.due = time.monotonic() + int(header(head, b"ronin-poll-milliseconds")) / 1000
        if not shown.is_set():  # the readers have gone
            for each in resting:
                each.client.close()
            resting.clear()


def _send(resting: list[Connection], poller: DefaultSelector) -> None:
    now = time.monotonic()
    for viewer in [each for each in resting if each.due <= now]:
        resting.remove(viewer)
        tag = b"If-None-Match: " + viewer.etag + b"\r\n" if viewer.etag else b""
        viewer.send("GET /live HTTP/1.1", tag + b"\r\n")
        poller.register(viewer.client, EVENT_READ, viewer)


def measure(port: int, options: argparse.Namespace) -> float:
    """Return what is left of the throughput beside the viewers."""
    answered, polls, unchanged = (multiprocessing.Value("q", 0) for _ in range(3))
    shown = multiprocessing.Event()
    looking = (port, options.viewers, shown, polls, unchanged)
    processes = [
        multiprocessing.Process(target=post, args=(port, answered, *CHANGE), daemon=True),
        multiprocessing.Process(target=look, args=looking, daemon=True),
    ]
    for process in processes:
        process.start()
    rates: list[float] = []
    for phase in range(4 * options.rounds):
        with_viewers = phase % 4 in (1, 2)  # without, with, with, without: a drift hits both
        if with_viewers:
            shown.set()
        else:
            shown.clear()
        time.sleep(SETTLE_SECONDS)
        begun, before, seen, same = time.monotonic(), answered.value, polls.value, unchanged.value
        time.sleep(options.seconds)
        took = time.monotonic() - begun
        rates.append((answered.value - before) / took)
        looks = polls.value - seen
        print(
            f"{options.viewers if with_viewers else 0:>4} viewers  {rates[-1]:6.0f}"
            f" changes/s  {looks / took:5.0f} looks/s"
            + (f", {(unchanged.value - same) / looks:.0%} of them 304" if looks else "")
        )
        if not all(process.is_alive() for process in processes):
            sys.exit("a client ended")
    for process in processes:
        process.terminate()
    rounds = [rates[begin : begin + 4] for begin in range(0, len(rates), 4)]
    # Each round for itself: what else the machine has to do comes and goes.
    left = median((b + c) / (a + d) for a, b, c, d in rounds)
    name = f"changes of a balance beside {options.viewers} viewers"
    say(Figure(name, left, "× without"))
    return left


def main() -> int:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5, help="of four phases each")
    parser.add_argument("--seconds", type=float, default=8, help="of a phase")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
        database(server) as url,
        gunicorn(url, Path(folder), env={"RONIN_SAMPLE_SECONDS": SAMPLE_SECONDS}) as instance,
    ):
        shares(url)
        left = measure(instance.port, options)
    return 0 if left >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
