"""What becomes of the runs of a worker that dies or sleeps: taken over, once, and soon."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil

from tests.eventually import eventually
from tests.system.facts import completed, held, now, outcomes, rows, shares, unsound
from tests.system.gunicorns import Instance, gunicorn, job_module

LATE_JOBS = """
import time
from cluster import job

@job(every="1d", at_once=True)
def deaf() -> None:
    time.sleep(5)

@job(every="1d", at_once=True)
def deaf_too() -> None:
    time.sleep(5)
"""


def test_runs_of_a_killed_worker_are_soon_under_way_on_others(url: str, tmp_path: Path) -> None:
    with gunicorn(url, tmp_path, env={"RONIN_SAMPLE_SECONDS": "5"}) as cluster:
        shares(url)
        victim, lost = next(iter(held(url).items()))
        killed_at = now(url)
        cluster.workers()[victim].kill()
        successors = eventually(lambda: taken_over(url, victim, lost), within=10)
        assert all(killed_at <= at for at in successors)
        eventually(lambda: completed(url) == 10, within=30)
        assert crashed(url) == sorted((job, victim) for job in lost)
        assert len(gaps(url)) == len(lost)
        assert all(0 <= gap < 10 for gap in gaps(url))
        assert unsound(url) == {}


def taken_over(url: str, victim: str, lost: list[str]) -> list[datetime]:
    """Return when the second attempts of the lost runs started, once all of them have."""
    started = rows(
        url,
        "SELECT started_at FROM run WHERE job = ANY (%(lost)s) AND worker <> %(victim)s"
        " AND attempt = 2",
        lost=lost,
        victim=victim,
    )
    assert len(started) == len(lost)
    return [at for (at,) in started]


def crashed(url: str) -> list[tuple[object, ...]]:
    return rows(url, "SELECT job, worker FROM history WHERE outcome = 'crashed' ORDER BY 1")


def gaps(url: str) -> list[float]:
    """Return the seconds from the end of each crashed attempt to the start of its successor."""
    found = rows(
        url,
        """
        SELECT extract(epoch FROM after.started_at - before.finished_at)::float8
        FROM history before JOIN history after USING (run_id)
        WHERE before.outcome = 'crashed' AND after.attempt = before.attempt + 1
        """,
    )
    return [gap for (gap,) in found]


def test_five_killed_workers_one_after_another_cost_no_job(url: str, tmp_path: Path) -> None:
    with gunicorn(url, tmp_path, env={"RONIN_SAMPLE_SECONDS": "6"}) as cluster:
        shares(url)
        for killed in range(1, 6):
            victim = eventually(lambda: least_hit(url, cluster))
            victim.kill()
            eventually(lambda: distinct_crashed_workers(url) == killed)  # noqa: B023 - called at once
        eventually(lambda: completed(url) == 10, within=40)
        assert set(outcomes(url)) == {"completed", "crashed"}
        assert unsound(url) == {}


def least_hit(url: str, cluster: Instance) -> psutil.Process:
    """Return a worker at work, of those whose runs have lost the fewest workers so far."""
    at_work = rows(
        url, "SELECT worker FROM run WHERE token IS NOT NULL GROUP BY 1 ORDER BY max(crashes)"
    )
    workers = cluster.workers()
    return next(workers[name] for (name,) in at_work if name in workers)


def distinct_crashed_workers(url: str) -> int:
    query = "SELECT count(DISTINCT worker) FROM history WHERE outcome = 'crashed'"
    number: int = rows(url, query)[0][0]
    return number


def test_late_result_of_a_worker_that_slept_past_its_lease_is_refused(
    url: str, tmp_path: Path
) -> None:
    settings = {"WEB_CONCURRENCY": "2", "RONIN_LEASE_SECONDS": "2"}
    with gunicorn(url, tmp_path, env={**settings, **job_module(tmp_path, LATE_JOBS)}) as cluster:
        assert shares(url, jobs=2) == [1, 1]
        name, [job] = next(iter(held(url).items()))
        with suspended(cluster.workers()[name]):
            eventually(lambda: taken_over(url, name, [job]))
        # The old attempt ends first, while the new one is under way.
        eventually(lambda: not held(url))
        assert [end for end, of in ended(url) if of == job] == ["crashed", "fenced", "completed"]
        assert unsound(url) == {}


@contextlib.contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """Freeze a process for the block."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def ended(url: str) -> list[tuple[object, ...]]:
    return rows(
        url, "SELECT outcome, job FROM history WHERE token IS NOT NULL ORDER BY finished_at"
    )


def test_worker_that_slept_past_its_lease_works_again_under_a_new_identity(
    url: str, tmp_path: Path
) -> None:
    settings = {"WEB_CONCURRENCY": "2", "RONIN_LEASE_SECONDS": "2", "RONIN_SAMPLE_SECONDS": "4"}
    with gunicorn(url, tmp_path, env=settings) as cluster:
        shares(url)
        name, lost = next(iter(held(url).items()))
        identity = identity_of(url, name)
        with suspended(cluster.workers()[name]):
            eventually(lambda: not identity_of(url, name))
            assert crashed(url) == sorted((job, name) for job in lost)
        eventually(lambda: identity_of(url, name))
        assert identity_of(url, name) != identity
        eventually(lambda: completed(url) == 10, within=40)
        assert unsound(url) == {}


def identity_of(url: str, name: str) -> list[tuple[object, ...]]:
    return rows(url, "SELECT id FROM worker WHERE name = %(name)s", name=name)


def test_cluster_killed_whole_is_taken_over_at_once_and_evenly(url: str, tmp_path: Path) -> None:
    settings = {"RONIN_SAMPLE_SECONDS": "3", "RONIN_LEASE_SECONDS": "3600"}
    with gunicorn(url, tmp_path, env=settings) as killed:
        shares(url)
        killed.kill()
    with gunicorn(url, tmp_path, env=settings):
        eventually(lambda: outcomes(url) == {"crashed": 10}, within=10)
        assert shares(url) == [2, 2, 2, 2, 2]
        eventually(lambda: completed(url) == 10)
        assert unsound(url) == {}
