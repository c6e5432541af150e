"""The routes: what the contract promises, and problems for everything else."""

import re
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest

from cluster import database
from cluster.database import Pool
from cluster.store import jobs, leases, runs
from tests.integration.builders import (
    HERE,
    NEVER,
    Answer,
    Lent,
    Web,
    a_job,
    a_worker,
    claimed,
    ended,
    execute,
    look,
    query,
    value,
)

JOB = {
    *("name", "function", "schedule", "timezone", "state", "worker", "started_at"),
    *("elapsed_seconds", "progress", "next_run_at", "waiting_for", "last_run"),
}
LAST_RUN = {"outcome", "started_at", "finished_at", "duration_seconds", "worker"}
HISTORY = {
    *("run_id", "attempt", "worker", "due_at", "started_at", "finished_at"),
    *("duration_seconds", "outcome", "error"),
}
WORKER = {"id", "host", "pid", "started_at", "load", "lease_until"}
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture
def web(pool: Pool) -> Web:
    """Return the application over this test's own database."""
    return Web(pool)


@pytest.fixture
def reading(shared: Pool) -> Web:
    """Return the application over a database with one job, for what changes nothing."""
    return Web(shared)


def job(web: Web, name: str = "tick") -> dict[str, Any]:
    """Return a job as the list shows it."""
    return next(shown for shown in web.get("/jobs").body if shown["name"] == name)


def next_link(answer: Answer) -> str | None:
    """Return the query of the page after this one."""
    found = re.match(r'<[^?>]*\?([^>]*)>; rel="?next"?', answer.headers.get("link", ""))
    return found and found[1]


def pages(web: Web, path: str, limit: int) -> list[list[dict[str, Any]]]:
    """Return all pages, following the links."""
    found, query_string = [], f"limit={limit}"
    while True:
        answer = web.get(path, query_string=query_string)
        found.append(answer.body)
        following = next_link(answer)
        if following is None:
            return found
        query_string = following


def test_a_waiting_job_has_the_fields_of_the_contract(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job(at_once=False)])
    shown = job(web)
    assert set(shown) >= JOB
    assert (shown["state"], shown["worker"], shown["started_at"]) == ("waiting", None, None)
    assert (shown["elapsed_seconds"], shown["progress"], shown["last_run"]) == (None, None, None)
    assert (shown["schedule"], shown["timezone"]) == (NEVER, "UTC")
    assert RFC_3339.fullmatch(shown["next_run_at"])


def test_a_running_job_says_who_runs_it_and_for_how_long(web: Web, pool: Pool) -> None:
    claim = claimed(pool)
    leases.beat(pool, value(pool, "SELECT id FROM worker"), [(claim.token, 0.25)])
    shown = job(web)
    assert (shown["state"], shown["worker"], shown["progress"]) == ("running", "host:1", 0.25)
    assert 0 < shown["elapsed_seconds"] < 60
    assert RFC_3339.fullmatch(shown["started_at"])
    assert shown["next_run_at"].endswith("-01-01T00:00:00Z")


def test_a_job_that_ran_says_how_it_ended(web: Web, pool: Pool) -> None:
    runs.finish(pool, [ended(pool, claimed(pool), "failed", error="no")])
    last = job(web)["last_run"]
    assert set(last) == LAST_RUN
    assert (last["outcome"], last["worker"]) == ("failed", "host:1")
    assert 0 <= last["duration_seconds"] < 60


def test_the_last_run_is_the_latest(web: Web, pool: Pool) -> None:
    runs.finish(pool, [ended(pool, claimed(pool), "interrupted")])
    claim = look(pool, value(pool, "SELECT id FROM worker")).claims[0]
    runs.finish(pool, [ended(pool, claim)])
    assert job(web)["last_run"]["outcome"] == "completed"


def test_every_job_is_in_the_list_by_name(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job(name=name) for name in ("c", "a", "b")])
    assert [shown["name"] for shown in web.get("/jobs").body] == ["a", "b", "c"]


def test_without_jobs_the_list_is_empty(web: Web) -> None:
    assert (web.get("/jobs").status, web.get("/jobs").body) == (200, [])


def test_a_job_says_why_it_waits(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job(name="now"), a_job(name="later", at_once=False)])
    assert job(web, "now")["waiting_for"] == "no_worker"
    a_worker(pool, names=["now", "later"])
    assert job(web, "now")["waiting_for"] == "free_worker"
    assert job(web, "later")["waiting_for"] == "schedule"
    jobs.change(pool, "later", {"paused": True})
    assert job(web, "later")["waiting_for"] == "paused"


def test_a_job_that_waits_for_a_retry_says_so(web: Web, pool: Pool) -> None:
    declared = a_job(retry_delay=60)
    runs.finish(pool, [ended(pool, claimed(pool, declared), "failed", job=declared)])
    assert (job(web)["state"], job(web)["waiting_for"]) == ("waiting", "retry")


def test_a_job_by_name_is_the_same_with_settings(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job(timeout="10m")])
    shown = web.get("/jobs/tick").body
    assert {key: shown[key] for key in JOB} == {key: job(web)[key] for key in JOB}
    assert shown["settings"]["timeout_seconds"] == 600
    assert (shown["settings"]["isolation"], shown["settings"]["memory_mib"]) == ("thread", None)


def test_a_paused_job_is_shown_as_paused_and_resumes(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job()])
    paused = web.ask("PATCH", "/jobs/tick", json={"paused": True})
    assert (paused.status, paused.body["state"], paused.body["paused"]) == (200, "paused", True)
    resumed = web.ask("PATCH", "/jobs/tick", json={"paused": False})
    assert (resumed.body["state"], resumed.body["paused"]) == ("waiting", False)


def test_a_paused_job_that_runs_is_shown_as_running(web: Web, pool: Pool) -> None:
    claimed(pool)
    assert web.ask("PATCH", "/jobs/tick", json={"paused": True}).body["state"] == "running"


def test_a_new_schedule_moves_the_next_run_and_null_brings_it_back(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job(at_once=False)])
    changed = web.ask("PATCH", "/jobs/tick", json={"schedule": "30 2 1 6 *"}).body
    assert (changed["schedule"], changed["declared_schedule"]) == ("30 2 1 6 *", NEVER)
    assert changed["next_run_at"].endswith("-06-01T02:30:00Z")
    back = web.ask("PATCH", "/jobs/tick", json={"schedule": None}).body
    assert (back["schedule"], back["next_run_at"][4:]) == (NEVER, "-01-01T00:00:00Z")


def test_run_now_answers_with_the_run(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job(at_once=False)])
    answer = web.ask("POST", "/jobs/tick/runs")
    assert answer.status == 202
    assert UUID(answer.body["run_id"]) == value(
        pool, "SELECT id FROM run WHERE not_before <= now()"
    )


def test_run_now_is_refused_while_the_job_runs(web: Web, pool: Pool) -> None:
    claimed(pool)
    answer = web.ask("POST", "/jobs/tick/runs")
    assert (answer.status, answer.problem) == (409, "job-running")


def test_run_now_is_refused_while_the_job_is_paused(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job()])
    jobs.change(pool, "tick", {"paused": True})
    answer = web.ask("POST", "/jobs/tick/runs")
    assert (answer.status, answer.problem) == (409, "job-paused")


def test_history_has_the_fields_of_the_contract(web: Web, pool: Pool) -> None:
    claim = claimed(pool)
    runs.finish(pool, [ended(pool, claim, "failed", error="no")])
    shown = web.get("/jobs/tick/history").body[0]
    assert set(shown) >= HISTORY
    assert (shown["run_id"], shown["attempt"], shown["error"]) == (str(claim.id), 1, "no")
    assert RFC_3339.fullmatch(shown["finished_at"])


def test_history_is_paged_newest_first_without_gap_or_twin(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job()])
    execute(
        pool,
        "INSERT INTO history (run_id, job, attempt, due_at, finished_at, outcome)"
        " SELECT uuid7(), 'tick', n, now(), now() - (n / 4) * interval '1 h', 'completed'"
        " FROM generate_series(1, 250) n",
    )
    found = pages(web, "/jobs/tick/history", 7)
    rows = [row for page in found for row in page]
    assert {len(page) for page in found[:-1]} == {7}
    assert len({row["run_id"] for row in rows}) == len(rows) == 250
    keys = [(row["finished_at"], row["run_id"]) for row in rows]
    assert keys == sorted(keys, reverse=True)


def test_a_page_that_ends_with_the_last_row_leads_nowhere_wrong(web: Web, pool: Pool) -> None:
    runs.finish(pool, [ended(pool, claimed(pool))])
    assert [len(page) for page in pages(web, "/jobs/tick/history", 1) if page] == [1]
    assert next_link(web.get("/jobs/tick/history", params={"limit": "2"})) is None


def test_rows_that_come_while_somebody_pages_change_no_later_page(web: Web, pool: Pool) -> None:
    claim = claimed(pool)
    for _ in range(4):
        runs.finish(pool, [ended(pool, claim, "interrupted")])
        claim = look(pool, value(pool, "SELECT id FROM worker")).claims[0]
    first = web.get("/jobs/tick/history", params={"limit": "2"})
    runs.finish(pool, [ended(pool, claim, "interrupted")])
    second = web.get("/jobs/tick/history", query_string=next_link(first))
    assert [row["attempt"] for row in first.body + second.body] == [4, 3, 2, 1]


def test_two_attempts_of_a_run_that_ended_at_one_moment_are_both_paged(
    web: Web, pool: Pool
) -> None:
    # A worker that was declared dead ends both the lost attempt and its own next one at once.
    first = claimed(pool)
    leases.take_over(pool, [value(pool, "SELECT id FROM worker")])
    second = look(pool, a_worker(pool)).claims[0]
    runs.finish(pool, [ended(pool, first), ended(pool, second)])
    rows = [row for page in pages(web, "/jobs/tick/history", 1) for row in page]
    assert sorted(row["outcome"] for row in rows) == ["completed", "crashed", "fenced"]


def test_a_preview_tells_the_next_firings(web: Web, pool: Pool) -> None:
    jobs.declare(pool, [a_job(schedule="30 2 * * *", timezone="Europe/Berlin")])
    found = web.get("/jobs/tick/preview", params={"count": "3"}).body
    assert len(found) == 3
    assert found == sorted(found)
    assert all(RFC_3339.fullmatch(moment) for moment in found)
    assert len(web.get("/jobs/tick/preview").body) == 10


def test_workers_say_who_holds_a_lease(web: Web, pool: Pool) -> None:
    claimed(pool)
    (worker,) = web.get("/workers").body
    assert set(worker) >= WORKER
    assert (worker["host"], worker["pid"], worker["load"]) == ("host", HERE.pid, 1)
    assert RFC_3339.fullmatch(worker["lease_until"])


def test_an_idle_worker_has_no_load(web: Web, pool: Pool) -> None:
    a_worker(pool)
    assert web.get("/workers").body[0]["load"] == 0


def test_health_is_200_without_a_database(url: str) -> None:
    with database.pool(f"{url} port=1", "ronin away", size=1, timeout=0.1) as away:
        web = Web(away)
        assert web.get("/health").status == 200
        answer = web.get("/health/ready")
    assert answer.status == 503
    assert "database" in answer.body["missing"]


def test_ready_is_200_with_a_database(reading: Web) -> None:
    assert (reading.get("/health/ready").status, reading.get("/health").status) == (200, 200)


def test_ready_is_503_before_the_migration(empty_url: str) -> None:
    with database.pool(empty_url, "ronin empty", size=1) as empty:
        answer = Web(empty).get("/health/ready")
    assert (answer.status, list(answer.body["missing"])) == (503, ["database"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/none"),
        ("PATCH", "/jobs/none"),
        ("POST", "/jobs/none/runs"),
        ("GET", "/jobs/none/history"),
        ("GET", "/jobs/none/preview"),
    ],
)
def test_an_unknown_job_is_a_404(reading: Web, method: str, path: str) -> None:
    body = {"json": {"paused": True}} if method == "PATCH" else {}
    answer = reading.ask(method, path, **body)
    assert (answer.status, answer.problem) == (404, "unknown-job")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/jobs", {"GET"}),
        ("/jobs/tick", {"GET", "PATCH"}),
        ("/jobs/tick/runs", {"POST"}),
        ("/jobs/tick/history", {"GET"}),
        ("/jobs/tick/preview", {"GET"}),
        ("/users/1", {"GET"}),
        ("/users/1/balance", {"POST"}),
        ("/workers", {"GET"}),
        ("/metrics", {"GET"}),
        ("/health", {"GET"}),
        ("/health/ready", {"GET"}),
    ],
)
def test_a_method_that_is_not_there_is_a_405_with_those_that_are(
    reading: Web, path: str, allowed: set[str]
) -> None:
    answer = reading.ask("DELETE", path)
    assert (answer.status, answer.problem) == (405, "method-not-allowed")
    told = set(answer.headers["allow"].split(", "))
    assert told - {"OPTIONS", "HEAD"} == allowed


@pytest.mark.parametrize(
    "path",
    ["/jobs", "/jobs/tick", "/jobs/tick/history", "/users/1", "/workers", "/metrics", "/health"],
)
def test_head_is_get_without_a_body(reading: Web, path: str) -> None:
    answer = reading.ask("HEAD", path)
    assert (answer.status, answer.body) == (200, "")


def test_a_slash_at_the_end_makes_no_difference(reading: Web) -> None:
    assert reading.get("/jobs/").body[0]["name"] == "tick"


def test_an_unexpected_error_is_an_id_for_the_client_and_the_rest_for_the_log(
    web: Web, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    execute(pool, "DROP TABLE job CASCADE")
    answer = web.get("/jobs")
    assert (answer.status, answer.problem) == (500, "internal-error")
    assert answer.body["error_id"] in caplog.text
    assert not re.search(r"psycopg|SELECT|relation|Traceback", str(answer.body))


def test_a_database_that_only_reads_is_a_503_for_who_wants_to_write(url: str) -> None:
    # What a server says that has just become a standby.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = on")
        web = Web(cast(Pool, Lent(connection)))
        assert web.get("/users/1").status == 200
        answer = web.change(-2)
    assert (answer.status, answer.problem) == (503, "database-unavailable")


def test_a_pool_that_is_exhausted_is_a_503(url: str) -> None:
    with database.pool(url, "ronin narrow", size=1, timeout=0.1) as narrow, narrow.connection():
        answer = Web(narrow).get("/jobs")
    assert (answer.status, answer.problem) == (503, "database-unavailable")


def test_nothing_that_reads_changes_a_row(reading: Web, shared: Pool) -> None:
    before = query(shared, "SELECT r::text, j::text FROM run r, job j")
    of_a_job = ("/jobs/tick", "/jobs/tick/history", "/jobs/tick/preview")
    for path in ("/jobs", *of_a_job, "/workers", "/metrics"):
        assert reading.get(path).status == 200
    assert query(shared, "SELECT r::text, j::text FROM run r, job j") == before
