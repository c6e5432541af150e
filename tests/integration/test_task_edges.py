"""Tasks at the edges: huge numbers, endless times, words that come too late or all at once."""

import fcntl
import json
import math
import resource
import socket
from dataclasses import dataclass
from typing import Any, NoReturn

import psycopg
import pytest

from cluster import Discard, RetryIn, lending
from cluster.database import Pool
from cluster.perform import Result, perform
from cluster.run import Run
from cluster.store import leases
from tests.integration.builders import (
    TaskWeb,
    a_kind,
    a_worker,
    asked,
    execute,
    expire,
    look,
    taken,
    together,
    value,
)
from tests.unit.builders import a_claim, no_connection
from webapp import bodies, remote
from webapp.arrival import BODY_LIMIT


class Mute(Exception):  # noqa: N818 - a situation of these tests
    """What can't be shown."""

    def __str__(self) -> NoReturn:
        raise RuntimeError


@dataclass
class Pair:
    """A value that JSON takes apart."""

    left: float
    right: object = None


def performed(function: Any) -> Result:
    """Perform a function as a task's."""
    run = Run(a_claim(job="work", schedule=None), no_connection)
    return perform(a_kind(function=function), run, "{}")


def lent(pool: Pool) -> Any:
    """Ask for a task and claim it for a remote worker."""
    asked(pool)
    (claim,) = lending.claim(pool, "far", ["work"], 1, 600)
    return claim


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "20000-01-01Z", "1969-01-01Z"])
@pytest.mark.parametrize("which", ["run_at", "deadline"])
def test_sql_takes_no_time_that_nobody_could_show(pool: Pool, which: str, moment: str) -> None:
    TaskWeb(pool)
    times = (moment, None) if which == "run_at" else (None, moment)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="1970 to 2999"):
        execute(
            pool,
            "SELECT enqueue('work', run_at => %s::text::timestamptz,"
            " deadline => %s::text::timestamptz)",
            *times,
        )


def test_a_row_for_the_end_of_time_does_not_stop_the_looks(pool: Pool) -> None:
    TaskWeb(pool)
    (task,) = asked(pool)
    execute(pool, "UPDATE run SET not_before = 'infinity' WHERE id = %s", task)
    assert look(pool, a_worker(pool, names=["work"]), names=["work"]).wake_at is not None


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
def test_what_is_over_is_not_cancelled(pool: Pool, outcome: str) -> None:
    web = TaskWeb(pool)
    claim = lent(pool)
    result = Result(outcome, final=True)
    lending.report(pool, web.catalogue, claim.id, claim.token, result)
    answer = web.ask("DELETE", f"/tasks/{claim.id}")
    assert (answer.status, answer.problem) == (409, "task-over")
    assert value(pool, "SELECT outcome FROM history") == outcome


def test_a_remote_worker_gets_what_a_limit_allows(pool: Pool) -> None:
    TaskWeb(pool, a_kind(max_running=2))
    asked(pool, 3)
    assert len(lending.claim(pool, "far", ["work"], 10, 600)) == 2
    assert lending.claim(pool, "far", ["work"], 10, 600) == []


def test_a_huge_argument_comes_back_wherever_it_is_read(pool: Pool) -> None:
    web = TaskWeb(pool)
    task = web.task(args={"factor": 1e30}).body["task_id"]
    assert float(web.get(f"/tasks/{task}").body["args"]["factor"]) == 1e30
    claims = web.post("/tasks/claim", {"worker": "far", "kinds": ["work"]}).body
    assert float(claims[0]["args"]["factor"]) == 1e30


def test_a_huge_argument_reaches_the_function(pool: Pool) -> None:
    web = TaskWeb(pool)
    web.task(args={"factor": 1e30})
    (claim,) = taken(pool)
    assert perform(a_kind(), Run(claim, pool.connection), claim.args).outcome == "completed"


def test_a_huge_number_that_sql_let_in_is_listed(pool: Pool) -> None:
    web = TaskWeb(pool)
    execute(pool, f"SELECT enqueue('work', '{{\"processing_time\": {10**30}}}')")
    assert web.get("/tasks").body[0]["processing_time"] == 10**30


def test_a_huge_result_comes_back(pool: Pool) -> None:
    web = TaskWeb(pool)
    claim = lent(pool)
    body = {"token": str(claim.token), "result": 1e30}
    assert float(web.post(f"/tasks/{claim.id}/complete", body).body["result"]) == 1e30


def test_a_result_may_have_64_kib(pool: Pool) -> None:
    web = TaskWeb(pool)
    claim = lent(pool)
    body = {"token": str(claim.token), "result": "x" * 65_500}
    assert web.post(f"/tasks/{claim.id}/complete", body).status == 200


def test_a_result_is_measured_in_bytes() -> None:
    assert "bytes" in (performed(lambda: "é" * 50_000).error or "")


@pytest.mark.parametrize("value", [math.nan, -math.inf, {"a": [1, (math.inf,)]}, Pair(math.nan)])
def test_what_is_no_number_of_json_is_no_result(value: object) -> None:
    """It would come back as null, as if nothing had been wrong."""
    found = performed(lambda: value)
    assert (found.outcome, found.value) == ("failed", None)
    assert "is no number there" in (found.error or "")


def test_null_and_a_text_with_nan_are_results() -> None:
    value = {"a": None, "b": "NaN null", "c": Pair(0.5)}
    expected = {"a": None, "b": "NaN null", "c": {"left": 0.5, "right": None}}
    assert json.loads(performed(lambda: value).value or "") == expected


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert json.loads(performed(lambda: "a \\u0000 b").value or "") == "a \\u0000 b"


@pytest.mark.parametrize("error", [Discard(Mute()), RetryIn(1, Mute())])  # type: ignore[arg-type]
def test_an_error_that_cannot_be_shown_is_a_failure(error: Exception) -> None:
    def act() -> None:
        raise error

    assert performed(act).outcome == "failed"


def test_no_number_of_seconds_is_none() -> None:
    def act() -> None:
        raise RetryIn(float("nan"))

    assert performed(act).retry_in == 0


@pytest.mark.parametrize("field", ["run_at", "deadline"])
def test_digits_are_no_time(pool: Pool, field: str) -> None:
    answer = TaskWeb(pool).task(**{field: "1893456000"})
    assert (answer.status, answer.body["errors"][0]["field"]) == (422, field)


def test_a_huge_processing_time_is_named(pool: Pool) -> None:
    answer = TaskWeb(pool).task(processing_time=2**70)
    assert answer.body["errors"][0]["field"] == "processing_time"


def test_a_cancelled_task_that_ended_is_not_completed(pool: Pool) -> None:
    web = TaskWeb(pool)
    claim = lent(pool)
    web.ask("DELETE", f"/tasks/{claim.id}")
    token = {"token": str(claim.token)}
    assert web.post(f"/tasks/{claim.id}/fail", {**token, "error": "x"}).status == 200
    assert web.post(f"/tasks/{claim.id}/fail", {**token, "error": "x"}).status == 200
    assert web.post(f"/tasks/{claim.id}/complete", token).status == 409


@pytest.mark.parametrize("_round", range(5))
def test_late_words_said_at_once_are_recorded_once(pool: Pool, _round: int) -> None:
    web = TaskWeb(pool)
    claim = lent(pool)
    expire(pool, value(pool, "SELECT id FROM worker"))
    leases.take_over(pool, [])

    def late(_number: int) -> None:
        with pytest.raises(lending.StaleTokenError):
            lending.report(pool, web.catalogue, claim.id, claim.token, Result("completed"))

    together(4, late)
    assert value(pool, "SELECT count(*) FROM history WHERE outcome = 'fenced'") == 1


def test_a_crash_reported_after_the_lease_was_lost_is_stale(pool: Pool) -> None:
    web = TaskWeb(pool)
    claim = lent(pool)
    expire(pool, value(pool, "SELECT id FROM worker"))
    leases.take_over(pool, [])
    body = {"token": str(claim.token), "error": "it died", "outcome": "crashed"}
    assert web.post(f"/tasks/{claim.id}/fail", body).status == 409


def test_bodies_of_one_task_are_here_before_a_thread_reads_them() -> None:
    """Only a batch is longer, and few of these are read at once."""
    assert max(bodies.LIMIT, remote.TaskComplete.body_limit) <= BODY_LIMIT


def test_a_client_is_seen_to_hang_up_however_many_descriptors_there_are() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    mine, theirs = socket.socketpair()
    with mine, socket.socket(fileno=fcntl.fcntl(theirs.detach(), fcntl.F_DUPFD, 1500)) as high:
        assert not remote._gone(high)  # noqa: SLF001 - it takes a thousand clients to get there
        mine.close()
        assert remote._gone(high)  # noqa: SLF001 - as above
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
