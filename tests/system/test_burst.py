"""Ten thousand withdrawals at one moment: each answered, half of them served, none too many."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks.burst import Target
from tests.eventually import eventually
from tests.system.facts import completed, outcomes, rows, shares, unsound
from tests.system.gunicorns import ROOT, Instance, gunicorn, ready


@pytest.mark.parametrize("moment", ["requests", "connections"])
def test_of_10000_withdrawals_at_once_half_succeed_and_half_are_refused(
    url: str, tmp_path: Path, moment: str
) -> None:
    with gunicorn(url, tmp_path, env={"RONIN_SAMPLE_SECONDS": "5"}) as cluster:
        ready(cluster)
        shares(url)
        before = cut()
        done = burst(cluster, *(["--connect-burst"] if moment == "connections" else []))
        assert answers(done.stdout) == {
            "200": 5000,
            "409 urn:ronin:problem:insufficient-funds": 5000,
            "connection errors": 0,
        }, f"{done.stdout}{cut() - before}\n{cluster.said()[-4000:]}"
        assert done.returncode == 0
        assert cluster.get("/users/1")["balance"] == 0
        assert rows(url, "SELECT count(*) FROM ledger WHERE amount = -2") == [(5000,)]
        eventually(lambda: completed(url) == 10, within=40)
        assert set(outcomes(url)) == {"completed"}
        assert unsound(url) == {}


def burst(cluster: Instance, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Withdraw 2 ten thousand times at once."""
    where = f"--url=http://127.0.0.1:{cluster.port}"
    what = ["--requests=10000", "--user=1", "--amount=-2"]
    command = [sys.executable, "benchmarks/burst.py", where, *what, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )


def answers(report: str) -> dict[str, int]:
    """Return how many answers of each kind the report counts."""
    counted = [line.split(maxsplit=1) for line in report.splitlines() if line.startswith("  ")]
    return {name: int(count.replace(",", "")) for count, name in counted}


def cut() -> Counter[str]:
    """Return what the kernel has counted of connections that it refused or cut, whosever."""
    found: Counter[str] = Counter()
    for path in ("/proc/net/netstat", "/proc/net/snmp"):
        lines = [line.split() for line in Path(path).read_text().splitlines()]
        for names, counts in zip(lines[::2], lines[1::2], strict=True):
            found |= Counter(dict(zip(names[1:], map(int, counts[1:]), strict=True)))
    kinds = ("Listen", "Abort", "Rst", "Cookie", "ReqQ")
    return Counter({name: n for name, n in found.items() if any(kind in name for kind in kinds)})


def test_changes_that_wait_for_the_database_leave_the_threads_to_others(
    url: str, tmp_path: Path
) -> None:
    """A hundred of them, and sixteen threads; nobody of the hundred is answered before."""
    ask = Target("127.0.0.1", 0, 1).request(-2)
    with gunicorn(url, tmp_path, env={"WEB_CONCURRENCY": "1"}) as cluster, ExitStack() as stack:
        ready(cluster)
        with frozen(url, "ronin http"):
            clients = [stack.enter_context(Client(cluster.port, ask)) for _ in range(100)]
            assert cluster.get("/health")
            answered, _, _ = select.select(clients, [], [], 0)
            assert not answered
        statuses = [each.status() for each in clients]
        assert set(statuses) <= {200, 503}
        assert cluster.http.post("/users/1/balance", json={"amount": -2}).status_code == 200
        posted = rows(url, "SELECT count(*) FROM ledger WHERE amount = -2")[0][0]
    assert posted > statuses.count(200)
    assert unsound(url) == {}


@contextmanager
def frozen(url: str, application: str) -> Iterator[None]:
    """Stop the sessions of an application while the block takes."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = %(name)s"
    pids = [row[0] for row in rows(url, query, name=application)]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class Client(socket.socket):
    """A connection on which a request was sent."""

    def __init__(self, port: int, request: bytes) -> None:
        super().__init__()
        self.settimeout(60)
        self.connect(("127.0.0.1", port))
        self.sendall(request)

    def status(self) -> int:
        """Return the status of the answer."""
        return int(self.recv(4096).split()[1])
