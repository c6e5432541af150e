"""Two hosts, each with a network and pids of its own, and the database behind two cables."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.migrate import migrate
from tests.chaos.cable import Cable
from tests.chaos.machine import CABLES, can_unplug
from tests.chaos.server import Server, server
from tests.eventually import eventually
from tests.system.facts import outcomes, rows, shares, unsound
from tests.system.gunicorns import Instance, free_port, gunicorn, job_module

pytestmark = pytest.mark.skipif(not can_unplug(), reason="needs root, to make network namespaces")

LEASE_SECONDS = 4
WORKERS = 2
JOBS = 6
TICKS = """
import os
import time
from pathlib import Path

from cluster import Run, job


def tick(run: Run) -> None:
    '''Say every tenth of a second who is at work, by the one clock that both hosts have.'''
    with Path(__file__).with_name(f"{run.job}.ticks").open("a", buffering=1) as file:
        for step in range(150):
            file.write(f"{time.monotonic()} {os.environ['RONIN_INSTANCE']} {run.attempt}\\n")
            run.wait(0.1)


for number in range(6):
    job(name=f"tick-{number}", every="1d", at_once=True)(tick)
"""


@dataclass(frozen=True, slots=True)
class Host:
    """A network and a set of pids of its own, with an instance in it."""

    cable: Cable
    instance: Instance

    def http(self, path: str) -> int:
        """Ask from inside, where alone it listens; return the status."""
        ask = (
            "import sys, urllib.request as u, urllib.error as e\n"
            "try: print(u.urlopen(sys.argv[1], timeout=20).status)\n"
            "except e.HTTPError as error: print(error.code)"
        )
        place = f"http://127.0.0.1:{self.instance.port}{path}"
        inside = ("ip", "netns", "exec", self.cable.name, sys.executable, "-c", ask, place)
        return int(subprocess.run(inside, check=True, capture_output=True).stdout)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Server]:
    """A server that both hosts reach by TCP."""
    with server(tmp_path / "postgres.log") as made:
        migrate(made.url)
        yield made


@pytest.fixture
def hosts(database: Server, tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts at work, which share the jobs."""
    with ExitStack() as stack:
        a, b = (stack.enter_context(host(end, database, tmp_path)) for end in "ab")
        assert sum(shares(database.url, JOBS)) == JOBS
        eventually(lambda: len(leases(database.url)) == 2 * WORKERS)
        eventually(lambda: at_work(database.url, a) and at_work(database.url, b))
        yield a, b


@contextmanager
def host(end: str, database: Server, folder: Path) -> Iterator[Host]:
    """Make a host, and start an instance on it."""
    number = database.port  # nobody else on this machine has it
    block = number % 8192 * 8 + "ab".index(end) * 4
    network = CABLES.split(".0.0/")[0]
    addresses = [f"{network}.{block >> 8}.{(block & 255) + side}" for side in (1, 2)]
    cable = Cable(f"ronin-h{number}{end}", f"rh{number}{end}", f"rg{number}{end}", *addresses)
    ip("netns", "add", cable.name)
    try:
        pair = ("type", "veth", "peer", "name", cable.theirs, "netns", cable.name)
        ip("link", "add", cable.ours, *pair)
        for place, device, address in (
            ((), cable.ours, cable.our_address),
            (("-n", cable.name), cable.theirs, cable.their_address),
        ):
            ip(*place, "addr", "add", f"{address}/30", "dev", device)
            ip(*place, "link", "set", device, "up")
        ip("-n", cable.name, "link", "set", "lo", "up")
        url = database.url_at(cable.our_address, database.port)
        own_pids = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        inside = ("ip", "netns", "exec", cable.name, *own_pids)
        settings = {
            **job_module(folder, TICKS),
            "RONIN_LEASE_SECONDS": str(LEASE_SECONDS),
            "WEB_CONCURRENCY": str(WORKERS),
        }
        command = (*inside, "gunicorn", "-c", "gunicorn.conf.py")
        with gunicorn(url, folder, env=settings, command=command, port=free_port()) as instance:
            yield Host(cable, instance)
    finally:
        ip("netns", "del", cable.name)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def leases(url: str) -> dict[str, Any]:
    """Return until when each worker's lease counts, by its name."""
    return dict(rows(url, "SELECT name, lease_until FROM worker"))


def at_work(url: str, host: Host) -> list[str]:
    """Return the jobs that are under way on a host."""
    query = "SELECT job FROM run WHERE worker LIKE %(name)s AND token IS NOT NULL ORDER BY 1"
    return [job for (job,) in rows(url, query, name=f"{host.instance.name}:%")]


def ticks(folder: Path, job: str) -> list[tuple[float, str]]:
    """Return when a job said that it was at work, and on which host."""
    lines = (folder / f"{job}.ticks").read_text().splitlines()
    return sorted((float(line.split()[0]), line.split()[1]) for line in lines)


def mixed(folder: Path, jobs: list[str]) -> list[str]:
    """Return the jobs that were under way in two places at once."""
    found = []
    for job in jobs:
        names = [name for _, name in ticks(folder, job)]
        changes = sum(one != other for one, other in itertools.pairwise(names))
        if changes >= len(set(names)):
            found.append(job)
    return found


def lost_by_lease(url: str) -> list[tuple[Any, ...]]:
    return rows(url, "SELECT job, worker, finished_at FROM history WHERE outcome = 'crashed'")


@pytest.mark.parametrize("direction", ["both", "from it"])
def test_a_host_without_the_database_gives_way_and_comes_back(
    database: Server, hosts: tuple[Host, Host], tmp_path: Path, direction: str
) -> None:
    """Both are alive all the time; with `from it` even the heartbeats of the one come through."""
    url, (a, b) = database.url, hosts
    lost = at_work(url, a)
    before = set(leases(url))
    living = {process.pid for process in a.instance.processes()}
    a.cable.cut(direction)
    eventually(lambda: set(lost) <= set(at_work(url, b)), within=60)
    assert a.http("/health") == 200
    assert eventually(lambda: a.http("/health/ready") == 503, within=60)
    assert living <= {process.pid for process in a.instance.processes()}
    a.cable.mend()
    eventually(lambda: set(leases(url)) == before, within=60)  # names; the identities are new
    eventually(lambda: outcomes(url).get("completed") == JOBS, within=90)
    assert {job for job, worker, _ in lost_by_lease(url)} == set(lost)
    assert all(worker.startswith(a.instance.name) for _, worker, _ in lost_by_lease(url))
    assert mixed(tmp_path, lost) == []
    assert "trouble with the database" in a.instance.said()
    assert "declared dead by others" in a.instance.said()
    assert unsound(url) == {}


def test_the_death_of_a_host_is_known_by_its_leases_alone(
    database: Server, hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    """Its pids mean nothing on another host, where others may have them."""
    url, (a, b) = database.url, hosts
    lost = at_work(url, a)
    a.instance.kill()
    until = leases(url)
    eventually(lambda: set(lost) <= set(at_work(url, b)), within=60)
    taken = lost_by_lease(url)
    assert {job for job, _, _ in taken} == set(lost)
    assert all(at >= until[worker] for _, worker, at in taken)
    eventually(lambda: outcomes(url).get("completed") == JOBS, within=90)
    assert mixed(tmp_path, lost) == []
    assert unsound(url) == {}
