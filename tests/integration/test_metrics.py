"""Metrics: what /metrics tells of a cluster, read by the parsers of Prometheus's own library."""

import re
from collections.abc import Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from cluster import database
from cluster.database import Pool
from cluster.run import MAX_CRASHES
from cluster.store import jobs, leases, metrics, runs, tasks
from tests.integration.builders import (
    NOWHERE,
    Web,
    a_job,
    a_kind,
    a_worker,
    asked,
    claimed,
    ended,
    execute,
    expire,
    look,
    taken,
    value,
)

Samples = dict[tuple[str, ...], float]
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}


@pytest.fixture
def web(pool: Pool) -> Web:
    """Return the application over this test's own database."""
    return Web(pool)


def of(families: Iterable[Metric]) -> Samples:
    """Return every sample by its name and the values of its labels; none comes twice."""
    found = [
        ((sample.name, *sample.labels.values()), sample.value)
        for family in families
        for sample in family.samples
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def samples(web: Web) -> Samples:
    """Return what /metrics tells."""
    answer = web.get("/metrics")
    assert answer.status == 200
    return of(text_string_to_metric_families(answer.body))


def runs_of(found: Samples, name: str = "work") -> dict[str, float]:
    """Return the numbers of a job's runs that are not zero, by state."""
    states = {state: found["ronin_runs", name, state] for state in _STATES}
    return {state: count for state, count in states.items() if count}


_STATES = ("running", "due", "paused", "later")


def test_an_empty_cluster_has_no_workers_and_says_so(web: Web, pool: Pool) -> None:
    found = samples(web)
    states = ("working", "leaving", "silent")
    assert [found["ronin_workers", state] for state in states] == [0, 0, 0]
    assert (found["ronin_slots",], found["ronin_claims_total",]) == (0, 0)
    now = value(pool, "SELECT extract(epoch FROM now())::float8")
    assert 0 <= now - found["ronin_clock_timestamp_seconds",] < 60


def test_both_formats_are_sound_and_say_the_same(web: Web, pool: Pool) -> None:
    runs.finish(pool, [ended(pool, claimed(pool))])
    text, opened = web.get("/metrics"), web.get("/metrics", headers=OPENMETRICS)
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0;")
    told = [
        set(of(text_string_to_metric_families(text.body))),
        set(
            of(openmetrics.text_string_to_metric_families(opened.body))  # type: ignore[no-untyped-call]
        ),
    ]
    assert told[0] == told[1]
    assert ("ronin_job_last_success_timestamp_seconds", "tick") in told[0]


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=nonsense",
        "application/openmetrics-text;escaping=*",
        "text/plain;version=x",
        ";,;",
        "image/png",
    ],
    ids=["version", "escaping", "plain", "empty", "image"],
)
def test_whatever_somebody_accepts_is_answered(web: Web, accept: str) -> None:
    answer = web.get("/metrics", headers={"Accept": accept})
    assert answer.status == 200
    assert "ronin_workers" in answer.body


def test_every_worker_tells_the_same(url: str, pool: Pool) -> None:
    """Another process has nothing but the rows, either."""
    jobs.declare(pool, [a_job(), a_kind()])
    asked(pool, 3)
    a_worker(pool)

    def told(web: Web) -> Samples:
        moving = re.compile("seconds$|ratio$")
        return {key: value for key, value in samples(web).items() if not moving.search(key[0])}

    with database.pool(url, "ronin another", size=2) as another:
        assert told(Web(pool)) == told(Web(another))


def test_nothing_is_changed_by_who_asks(web: Web, pool: Pool) -> None:
    with pool.connection() as connection, connection.transaction():
        connection.execute("LOCK TABLE run, worker, job, total, pulse_job IN EXCLUSIVE MODE")
        assert web.get("/metrics").status == 200


def test_without_the_database_there_is_nothing_to_tell(url: str) -> None:
    with database.pool(url, "ronin narrow", size=1, timeout=0.1) as narrow, narrow.connection():
        answer = Web(narrow).get("/metrics")
    assert (answer.status, answer.problem) == (503, "database-unavailable")


def test_runs_are_counted_by_state(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_kind()])
    asked(pool, 5)
    asked(pool, 3, priority=7)
    execute(
        pool,
        "UPDATE run SET not_before = now() + interval '1 h'"
        " WHERE id IN (SELECT id FROM run WHERE priority = 0 LIMIT 2)",
    )
    assert len(taken(pool, free=2)) == 2
    assert runs_of(samples(web)) == {"running": 2, "due": 4, "later": 2}
    jobs.change(pool, "work", {"paused": True})
    found = samples(web)
    assert runs_of(found) == {"running": 2, "paused": 4, "later": 2}
    assert found["ronin_job_paused", "work"] == 1
    assert found["ronin_claims_total",] == 2


def test_the_oldest_that_waits_and_the_longest_that_runs_are_told(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_kind()])
    asked(pool, 2)
    asked(pool, 1, priority=-5)
    execute(pool, "UPDATE run SET not_before = now() - interval '1 h' WHERE priority < 0")
    asked(pool, 1, priority=50)
    taken(pool, free=1)
    execute(pool, "UPDATE run SET started_at = now() - interval '2 h' WHERE token IS NOT NULL")
    found = samples(web)
    assert 3600 <= found["ronin_run_oldest_due_seconds", "work"] < 3660
    assert 7200 <= found["ronin_run_longest_running_seconds", "work"] < 7260
    jobs.change(pool, "work", {"paused": True})
    assert samples(web)["ronin_run_oldest_due_seconds", "work"] == 0


def test_what_waits_for_later_is_not_due(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job(at_once=False)])
    found = samples(web)
    assert found["ronin_run_oldest_due_seconds", "tick"] == 0
    assert found["ronin_job_late_seconds", "tick"] == 0
    assert runs_of(found, "tick") == {"later": 1}
    at = value(pool, "SELECT extract(epoch FROM not_before)::float8 FROM run")
    assert found["ronin_job_next_run_timestamp_seconds", "tick"] == pytest.approx(at)


def test_a_firing_is_late_until_it_has_started(web: Web, pool: Pool) -> None:
    declared = a_job(retry_delay=3600)
    jobs.declare(pool, [declared])
    execute(pool, "UPDATE run SET due_at = now() - interval '90 s', not_before = due_at")
    assert 90 <= samples(web)["ronin_job_late_seconds", "tick"] < 150
    claim = claimed(pool, declared)
    assert samples(web)["ronin_job_late_seconds", "tick"] == 0
    runs.finish(pool, [ended(pool, claim, "failed", job=declared)])
    assert samples(web)["ronin_job_late_seconds", "tick"] == 0


def test_a_paused_job_is_not_late(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job()])
    jobs.change(pool, "tick", {"paused": True})
    found = samples(web)
    assert found["ronin_job_late_seconds", "tick"] == 0
    assert ("ronin_job_next_run_timestamp_seconds", "tick") not in found


def test_a_kind_has_no_firing(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_kind()])
    found = samples(web)
    assert ("ronin_job_late_seconds", "work") not in found
    assert found["ronin_tasks_parked", "work"] == 0


def test_what_waits_is_counted_up_to_a_limit_that_jobs_share(pool: Pool) -> None:
    kinds = [a_kind(name=name) for name in ("a", "b", "c")]
    jobs.declare(pool, kinds)
    for name in ("a", "b"):
        asked(pool, 4, kind=name)
        asked(pool, 4, kind=name, priority=1)

    def due(most: int) -> list[int]:
        return [row["due"] for row in metrics.figures(pool, most).jobs]

    assert due(1000) == [8, 8, 0]
    assert due(10) == [5, 5, 0]
    assert due(1) == [1, 1, 0]


def test_leases_are_told_by_worker(web: Web, pool: Pool) -> None:
    a_worker(pool, lease=100, name="a:1")
    leaving = a_worker(pool, lease=100, name="a:2")
    leases.leave(pool, leaving)
    expire(pool, a_worker(pool, process=NOWHERE, name="b:1"))
    execute(pool, "UPDATE worker SET lease_until = now() + interval '40 s' WHERE name = 'a:1'")
    found = samples(web)
    states = ("working", "leaving", "silent")
    assert [found["ronin_workers", state] for state in states] == [1, 1, 1]
    assert 30 < found["ronin_worker_lease_seconds", "a:1"] <= 40
    assert 0.3 < found["ronin_worker_lease_left_ratio", "a:1"] <= 0.4
    assert found["ronin_worker_lease_seconds", "b:1"] < 0


def test_a_number_that_was_given_anew_is_one_worker(web: Web, pool: Pool) -> None:
    """The row of a process that died, and that of another with its number."""
    expire(pool, a_worker(pool, process=NOWHERE, name="a:1"))
    a_worker(pool, lease=100, name="a:1")
    found = samples(web)
    assert (found["ronin_workers", "working"], found["ronin_workers", "silent"]) == (1, 0)
    assert found["ronin_worker_lease_seconds", "a:1"] > 0


def test_workers_are_counted_that_know_a_job(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job(), a_job(name="other"), a_kind(name="far", remote=True)])
    a_worker(pool, name="a:1")
    expire(pool, a_worker(pool, name="a:2"))
    found = samples(web)
    assert found["ronin_job_workers", "tick"] == 1
    assert found["ronin_job_workers", "other"] == 0
    assert ("ronin_job_workers", "far") not in found


def test_slots_are_those_of_who_works(web: Web, pool: Pool) -> None:
    for number in range(3):
        leases.register(pool, f"a:{number}", NOWHERE, ["tick"], 600, slots=16)
    leases.leave(pool, value(pool, "SELECT id FROM worker WHERE name = 'a:2'"))
    assert samples(web)["ronin_slots",] == 32


def test_remote_workers_have_no_label(web: Web, pool: Pool) -> None:
    with pool.connection() as connection:
        for number in range(3):
            leases.lend(connection, f"far:{number}", ["tick"], 60)
    found = samples(web)
    assert found["ronin_remote_leases",] == 3
    assert found["ronin_workers", "working"] == 0
    assert not any("far" in text for key in found for text in key)


def once_more(pool: Pool, *outcomes: str) -> None:
    """Let `tick` run and end, again and again."""
    declared = a_job(max_retries=100, retry_delay=0.001, retry_jitter=0)
    worker = a_worker(pool)
    for outcome in outcomes:
        jobs.declare(pool, [declared])
        jobs.run_now(pool, "tick")
        (claim,) = look(pool, worker).claims
        runs.finish(pool, [ended(pool, claim, outcome, job=declared)])


def test_failures_in_a_row_end_with_a_success(web: Web, pool: Pool) -> None:
    once_more(pool, "failed", "completed", "failed", "timed_out", "interrupted", "failed")
    found = samples(web)
    assert found["ronin_job_failures_in_a_row", "tick"] == 3
    at = value(
        pool,
        "SELECT extract(epoch FROM finished_at)::float8 FROM history WHERE outcome = 'completed'",
    )
    assert found["ronin_job_last_success_timestamp_seconds", "tick"] == pytest.approx(at)
    assert 0 <= found["ronin_job_last_duration_seconds", "tick"] < 60
    once_more(pool, "completed")
    assert samples(web)["ronin_job_failures_in_a_row", "tick"] == 0


def test_a_job_that_never_completed_has_no_last_success(web: Web, pool: Pool) -> None:
    once_more(pool, "failed")
    found = samples(web)
    assert ("ronin_job_last_success_timestamp_seconds", "tick") not in found
    assert ("ronin_job_last_duration_seconds", "tick") not in found


def test_a_parked_task_is_told_until_it_is_retried(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_kind()])
    (task,) = asked(pool)
    worker = a_worker(pool, names=["work"])
    assert taken(pool, worker=worker)
    execute(pool, "UPDATE worker SET remote = true")  # then every death is the task's own
    execute(pool, "UPDATE run SET crashes = %s", MAX_CRASHES - 1)
    assert samples(web)["ronin_tasks_parked", "work"] == 0
    leases.take_over(pool, [worker])
    assert samples(web)["ronin_tasks_parked", "work"] == 1
    assert tasks.retry(pool, task, "somebody")
    assert samples(web)["ronin_tasks_parked", "work"] == 0


def test_postings_are_counted(web: Web) -> None:
    before = samples(web)["ronin_postings_total",]
    for _ in range(3):
        web.change(-2)
    assert samples(web)["ronin_postings_total",] == before + 3
