"""Five workers and ten jobs: shared, performed, shown in real time, and steered by hand."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.eventually import eventually
from tests.system.facts import Row, completed, database, now, rows, unsound
from tests.system.gunicorns import Instance, gunicorn, ready

SAMPLE_SECONDS = 4


@pytest.fixture(scope="module")
def url(server_url: str) -> Iterator[str]:
    """The URL of a database for all tests of this module."""
    with database(server_url) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """A cluster that has just performed each job once, and what it showed meanwhile."""
    settings = {"RONIN_SAMPLE_SECONDS": str(SAMPLE_SECONDS)}
    with gunicorn(url, tmp_path_factory.mktemp("cluster"), env=settings) as instance:
        ready(instance)
        eventually(lambda: completed(url) == 10)
        yield instance


def first_runs(url: str) -> list[Row]:
    """Return worker, outcome and seconds of the first run of each job."""
    return rows(
        url,
        """
        SELECT worker, outcome, extract(epoch FROM finished_at - started_at)::float8 FROM (
            SELECT *, row_number() OVER (PARTITION BY job ORDER BY fence) AS number FROM history
        ) h WHERE number = 1
        """,
    )


def times(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


def start(cluster: Instance, job: str) -> None:
    """Have a job run now; it may be running already because its schedule says so."""
    eventually(lambda: cluster.http.post(f"/jobs/{job}/runs").status_code == 202)


def under_way(cluster: Instance, job: str) -> dict[str, Any]:
    """Wait until a job runs, and return what is shown of it."""

    def running() -> dict[str, Any]:
        shown = cluster.job(job)
        assert shown["state"] == "running"
        return shown

    return eventually(running)


@pytest.mark.usefixtures("cluster")
def test_five_workers_share_ten_jobs_two_and_two(url: str) -> None:
    workers = [worker for worker, *_ in first_runs(url)]
    assert sorted(workers.count(worker) for worker in set(workers)) == [2, 2, 2, 2, 2]


@pytest.mark.usefixtures("cluster")
def test_all_jobs_complete_and_none_ends_too_soon(url: str) -> None:
    assert {outcome for _, outcome, _ in first_runs(url)} == {"completed"}
    assert min(seconds for *_, seconds in first_runs(url)) >= SAMPLE_SECONDS


@pytest.mark.usefixtures("cluster")
def test_history_holds_each_run_once_and_no_overlap(url: str) -> None:
    assert unsound(url) == {}


def test_workers_are_listed_with_a_lease_in_the_future(cluster: Instance, url: str) -> None:
    workers = cluster.get("/workers")
    assert {worker["name"] for worker in workers} == set(cluster.workers())
    assert all(times(worker["lease_until"]) > now(url) for worker in workers)


def test_running_job_shows_its_worker_and_its_growing_time(cluster: Instance) -> None:
    start(cluster, "wait")
    first = under_way(cluster, "wait")
    later = eventually(lambda: grown(cluster, first))
    assert later["worker"] == first["worker"] in cluster.workers()
    assert later["started_at"] == first["started_at"]


def grown(cluster: Instance, before: dict[str, Any]) -> dict[str, Any]:
    shown = cluster.job("wait")
    assert shown["elapsed_seconds"] > before["elapsed_seconds"] + 0.5
    return shown


def test_waiting_job_is_listed_with_its_next_firing(cluster: Instance) -> None:
    listed = cluster.get("/jobs")
    waiting = [job for job in listed if job["state"] == "waiting"]
    assert len(listed) == 10
    assert waiting
    assert all(job["worker"] is job["elapsed_seconds"] is None for job in waiting)
    assert {job["waiting_for"] for job in waiting} <= {"schedule", "free_worker"}
    assert all(times(job["next_run_at"]) > datetime(2020, 1, 1, tzinfo=UTC) for job in waiting)


def test_job_starts_on_request_and_then_is_not_started_twice(cluster: Instance, url: str) -> None:
    start(cluster, "measure-bloat")
    under_way(cluster, "measure-bloat")
    refused = cluster.http.post("/jobs/measure-bloat/runs")
    assert refused.status_code == 409
    assert refused.json()["type"].endswith("job-running")
    eventually(lambda: cluster.job("measure-bloat")["state"] == "waiting")
    assert unsound(url) == {}


def test_paused_job_stays_when_it_is_due_and_goes_on_when_resumed(
    cluster: Instance, url: str
) -> None:
    path = "/jobs/measure-latency"
    changed = cluster.http.patch(path, json={"paused": True, "schedule": "@every 2s"})
    assert changed.json()["waiting_for"] == "paused"
    eventually(lambda: cluster.job("measure-latency")["state"] == "paused")
    # Due for longer than any worker sleeps.
    eventually(lambda: (now(url) - due(cluster)).total_seconds() > 3)
    assert cluster.job("measure-latency")["state"] == "paused"
    assert cluster.http.post(f"{path}/runs").json()["type"].endswith("job-paused")
    cluster.http.patch(path, json={"paused": False, "schedule": None})
    start(cluster, "measure-latency")
    assert under_way(cluster, "measure-latency")["worker"] in cluster.workers()


def due(cluster: Instance) -> datetime:
    return times(cluster.job("measure-latency")["next_run_at"])
