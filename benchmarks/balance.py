"""Measure changes of one balance: 10,000 at one moment, and a steady load, beside the ceilings.

    python benchmarks/balance.py [--rounds 3] [--flush-ms 2] [--express]

Starts a PostgreSQL, five workers with all sample jobs under way, five workers with an empty route,
and with `--express` five processes of Express and pg. Each round asks one after the other, and each
burst withdraws 2 from a balance of 10,000, so that half of it is refused.
`--flush-ms` makes every flush of the server's log take that much longer (`commit_delay`), as a disk
in a cloud does.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import ceilings, clients
from benchmarks.burst import EXPECTED, Burst, Target, raise_descriptor_limit
from benchmarks.figures import Figure, say
from benchmarks.peers.driver import PeerError, express
from tests.system.facts import database, rows, shares
from tests.system.gunicorns import gunicorn, ready, server_of

REQUESTS = 10_000
SECONDS = 5.0  # of a steady load
BALANCE = 10_000
_EXPRESS = "Express and pg"


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3, help="the medians are told")
    parser.add_argument("--flush-ms", type=int, default=0, help="that each flush takes longer")
    parser.add_argument("--express", action="store_true", help="compare Express and pg as well")
    options = parser.parse_args()
    raise_descriptor_limit(REQUESTS)
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
    ):
        delay_flushes(server, options.flush_ms)
        measure(
            server, Path(folder), options.rounds, options.flush_ms, with_express=options.express
        )


def delay_flushes(server: str, milliseconds: int) -> None:
    """Let who flushes the log sleep first; others that wait for the same flush wait with it."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET commit_delay = {milliseconds * 1000:d}")
        connection.execute("ALTER SYSTEM SET commit_siblings = 0")
        connection.execute("SELECT pg_reload_conf()")


def measure(server: str, folder: Path, rounds: int, flush_ms: int, *, with_express: bool) -> None:
    """Print the figures."""
    with ExitStack() as stack:
        url = stack.enter_context(database(server))
        instance = stack.enter_context(gunicorn(url, folder, env={"RONIN_SAMPLE_SECONDS": "900"}))
        ready(instance)
        shares(url)
        empty = stack.enter_context(ceilings.empty_route(folder))
        services: dict[str, tuple[int, Callable[[], None]]] = {
            "empty route": (empty.port, lambda: None),
            "Ronin": (instance.port, lambda: _set(url)),
        }
        if with_express:
            other = stack.enter_context(database(server))
            try:
                port = stack.enter_context(express(other, BALANCE))
                services[_EXPRESS] = (port, lambda: _set(other))
            except PeerError as error:  # the others are measured all the same
                print(f"left out: {_EXPRESS}: {error}", flush=True)
        bursts: dict[str, list[float]] = {name: [] for name in services}
        steady: dict[str, list[float]] = {name: [] for name in services}
        for _ in range(rounds):
            for name, (port, prepare) in services.items():
                prepare()
                bursts[name].append(_burst(port))
                steady[name].append(
                    clients.rate(port, "/users/1/balance", b'{"amount": 1}', SECONDS)
                )
        plain = [ceilings.hot_row(url, 5) for _ in range(rounds)]
    slow = f", flush +{flush_ms} ms" if flush_ms else ""
    for what, found in (("10,000 at one moment", bursts), ("64 connections", steady)):
        top = median(found["empty route"])
        for name, rates in found.items():
            label = f"{what}, {name}{slow}"
            say(Figure(label, median(rates), "requests/s", top, "the empty route"))
    if _EXPRESS in bursts:
        label = f"10,000 at one moment, Ronin{slow} against {_EXPRESS}"
        rate, other_rate = median(bursts["Ronin"]), median(bursts[_EXPRESS])
        say(Figure(label, rate, "requests/s", other_rate, _EXPRESS))
    changes = median(plain)
    say(Figure(f"plain UPDATE of one row, pgbench, 5 clients{slow}", changes, "changes/s"))
    label = f"64 connections, Ronin{slow} against the plain UPDATE"
    say(Figure(label, median(steady["Ronin"]), "changes/s", changes, "the plain UPDATE"))


def _set(url: str) -> None:
    rows(url, "UPDATE users SET balance = 10000 WHERE id = 1")


def _burst(port: int) -> float:
    """Return the requests a second of a burst; each has to be answered as expected."""
    url = urlsplit(f"http://127.0.0.1:{port}")
    target = Target(url.hostname or "", url.port or 0, 1)
    burst = Burst(target, timeout=120)
    burst.run(target.request(-2), REQUESTS, connect_first=True)
    strange = [name for name in burst.answers if int(name[:3]) not in EXPECTED]
    if burst.errors or strange:
        sys.exit(f"unexpected: {burst.errors} {strange}")
    return REQUESTS / burst.seconds


if __name__ == "__main__":
    main()
