"""A database that dies in the middle of everything: what was acknowledged stands, work goes on."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from tests.eventually import eventually
from tests.system.clients import Answer, Clients, change, misposted
from tests.system.facts import outcomes, rows, shares, unsound
from tests.system.gunicorns import Instance, gunicorn, job_module, of_server, ready, server_of

OUTAGE_SECONDS = 2.5
PROMPT_SECONDS = 20
VIEWERS = 400
"""As many as are told within ten seconds only if most of them do not wait for the database."""

PATIENT_JOBS = """
from cluster import Run, job

def patient(run: Run) -> None:
    for step in range(60):
        run.progress(step / 60)
        run.wait(0.1)

for number in range(4):
    job(name=f"patient-{number}", every="1d", at_once=True)(patient)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of this test's own server."""
    return tmp_path / "data"


@pytest.fixture
def url(data: Path) -> Iterator[str]:
    """The URL of this test's own server."""
    with server_of(data) as address:
        yield address


@contextmanager
def outage(data: Path) -> Iterator[None]:
    """Kill the server with -9, and keep it from being started again for the block."""
    [guard] = of_server(data, "postmaster.py")
    # By its pid file: a backend just forked still has its parent's command line.
    postmaster = psutil.Process(int((data / "pg" / "postmaster.pid").read_text().split()[0]))
    guard.suspend()
    postmaster.kill()
    try:
        yield
    finally:
        guard.resume()


def status(instance: Instance, path: str) -> int:
    return instance.http.get(path).status_code


def unworthy(answers: list[Answer]) -> list[Answer]:
    """Return the answers that no client should get from a service whose database is away."""
    kinds = {200: "application/json", 503: "application/problem+json"}
    return [
        answer
        for answer in answers
        if kinds.get(answer.status) != answer.media or answer.seconds > PROMPT_SECONDS
    ]


@pytest.mark.parametrize("downtime", [0.0, OUTAGE_SECONDS])
def test_acknowledged_changes_survive_the_death_of_the_server(
    url: str, data: Path, tmp_path: Path, downtime: float
) -> None:
    with gunicorn(url, tmp_path, env={"WEB_CONCURRENCY": "3"}) as cluster:
        ready(cluster)
        with Clients(cluster, count=16) as clients:
            clients.await_answers(200)
            with outage(data):
                died_at = time.monotonic()
                clients.await_answers(1, status=503)
                eventually(lambda: time.monotonic() - died_at > downtime)
            clients.await_answers(200)
        assert unworthy(clients.answers) == []
        assert misposted(url, clients.answers) == []
        assert unsound(url) == {}


def test_an_outage_keeps_nobody_waiting_who_wants_to_read(
    url: str, data: Path, tmp_path: Path
) -> None:
    def look(path: str) -> tuple[int, float]:
        begun = time.monotonic()
        viewer = HTTPConnection("127.0.0.1", cluster.port, timeout=60)
        with closing(viewer):
            viewer.request("GET", path)
            return viewer.getresponse().status, time.monotonic() - begun

    with gunicorn(url, tmp_path, env={"WEB_CONCURRENCY": "2"}) as cluster:
        ready(cluster)
        with outage(data), ThreadPoolExecutor(VIEWERS) as viewers:
            paths = ["/jobs"] * VIEWERS
            assert {status for status, _ in viewers.map(look, paths)} <= {200, 503}
            answers = list(viewers.map(look, paths + ["/health"] * 3))
        assert [status for status, _ in answers] == [503] * VIEWERS + [200] * 3
        assert max(seconds for _, seconds in answers) < 10
        eventually(lambda: status(cluster, "/jobs") == 200)


def test_retry_with_the_same_key_after_the_outage_has_one_effect(
    url: str, data: Path, tmp_path: Path
) -> None:
    with gunicorn(url, tmp_path, env={"WEB_CONCURRENCY": "3"}) as cluster:
        ready(cluster)
        with Clients(cluster, count=16) as clients:
            clients.await_answers(200)
            with outage(data):
                clients.await_answers(16, status=503)
        ready(cluster)
        keyed = [answer for answer in clients.answers if answer.key][-200:]
        assert {answer.status for answer in keyed} == {200, 503}
        retried = [change(cluster.http, each.amount, each.key) for each in (*keyed, *keyed)]
        assert {answer.status for answer in retried} == {200}
        assert misposted(url, retried) == []


def test_running_jobs_survive_an_outage(url: str, data: Path, tmp_path: Path) -> None:
    with gunicorn(url, tmp_path, env=job_module(tmp_path, PATIENT_JOBS)) as cluster:
        shares(url, jobs=4)
        with outage(data):
            died_at = time.monotonic()
            eventually(lambda: time.monotonic() - died_at > OUTAGE_SECONDS)
        eventually(lambda: outcomes(url) == {"completed": 4}, within=30)
        assert rows(url, "SELECT DISTINCT attempt FROM history WHERE token IS NOT NULL") == [(1,)]
        assert unsound(url) == {}
        assert cluster.get("/health") == {"status": "ok"}


def test_readiness_tells_the_outage_and_health_does_not(
    url: str, data: Path, tmp_path: Path
) -> None:
    with gunicorn(url, tmp_path, env={"WEB_CONCURRENCY": "1"}) as cluster:
        ready(cluster)
        with outage(data):
            eventually(lambda: status(cluster, "/health/ready") == 503)
            assert cluster.http.get("/health/ready").json()["missing"].keys() == {"database"}
            assert status(cluster, "/health") == 200
        eventually(lambda: status(cluster, "/health/ready") == 200)
