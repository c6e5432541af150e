"""The shipped kinds of tasks that work on the database."""

import json
from typing import Any
from uuid import UUID

import pytest

import jobs.tasks
from cluster.database import Pool
from cluster.job import Job, catalogue
from cluster.perform import Result, perform
from cluster.run import Claim, Run
from cluster.store import jobs as store
from tests.integration.builders import TaskWeb, asked, due, execute, query, taken, value


def shipped(name: str) -> Job:
    """Return a shipped kind."""
    job = catalogue.get(name)
    assert job
    assert job.function.__module__ == jobs.tasks.__name__
    return job


def claimed(pool: Pool, kind: str, **args: Any) -> Claim:
    """Ask for a task and claim it."""
    store.declare(pool, [shipped(kind)])
    asked(pool, kind=kind, args=args)
    (claim,) = taken(pool, kind)
    return claim


def performed(pool: Pool, kind: str, **args: Any) -> Result:
    """Perform a task that was asked for and claimed."""
    claim = claimed(pool, kind, **args)
    return perform(shipped(kind), Run(claim, pool.connection), claim.args)


def imported(pool: Pool) -> list[tuple[int, dict[str, str]]]:
    """Return what was imported, line by line."""
    return [(row[0], row[1]) for row in query(pool, "SELECT line, fields FROM imported ORDER BY 1")]


def test_lines_of_csv_become_rows(pool: Pool) -> None:
    result = performed(pool, "import-csv", text='a,b\n1,"x, ""y"""\n2,☃\r\n')
    assert result == Result("completed", value='{"rows":2,"fields":["a","b"]}')
    assert imported(pool) == [(1, {"a": "1", "b": 'x, "y"'}), (2, {"a": "2", "b": "☃"})]


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_fields_are_parted_as_was_said(pool: Pool, delimiter: str) -> None:
    text = f"a{delimiter}b\n1{delimiter}2\n"
    assert performed(pool, "import-csv", text=text, delimiter=delimiter).outcome == "completed"
    assert imported(pool) == [(1, {"a": "1", "b": "2"})]


def test_a_header_alone_is_an_import_of_nothing(pool: Pool) -> None:
    result = performed(pool, "import-csv", text="a,b\n")
    assert json.loads(result.value or "")["rows"] == 0
    assert imported(pool) == []


@pytest.mark.parametrize("text", ["a,b\n1\n", "a,b\n1,2,3\n", "a,b\n1,2\n3\n"])
def test_a_line_that_does_not_fit_the_header_fails_for_good_and_imports_nothing(
    pool: Pool, text: str
) -> None:
    result = performed(pool, "import-csv", text=text)
    assert (result.outcome, result.final) == ("failed", True)
    assert "fields of the header" in (result.error or "")
    assert imported(pool) == []


def test_an_import_that_was_lost_in_the_middle_imports_nothing_twice(pool: Pool) -> None:
    text = "n\n" + "".join(f"{n}\n" for n in range(1, 351))
    claim = claimed(pool, "import-csv", text=text)
    run = Run(claim, pool.connection)
    run.stop("interrupted")
    assert perform(shipped("import-csv"), run, claim.args).outcome == "interrupted"
    assert len(imported(pool)) == 100
    again = Run(claim, pool.connection)
    assert perform(shipped("import-csv"), again, claim.args).outcome == "completed"
    assert imported(pool) == [(n, {"n": str(n)}) for n in range(1, 351)]
    assert again.fraction == 1


def test_two_imports_do_not_mix(pool: Pool) -> None:
    for text in ("a\n1\n", "a\n2\n"):
        performed(pool, "import-csv", text=text)
    assert value(pool, "SELECT count(DISTINCT task_id) FROM imported") == 2
    assert value(pool, "SELECT count(*) FROM imported") == 2


def test_a_report_sums_up_what_the_balance_says(pool: Pool) -> None:
    web = TaskWeb(pool)
    for amount in (-2, 7, -3):
        assert web.change(amount).status == 200
    result = performed(pool, "report-ledger", user_id=1)
    report = json.loads(result.value or "")
    assert report["total"] == value(pool, "SELECT balance FROM users WHERE id = 1") == 10_002
    assert report["paid_out"] == -5
    assert report["paid_in"] + report["paid_out"] == report["total"]
    assert report["postings"] == value(pool, "SELECT count(*) FROM ledger WHERE user_id = 1")


def test_a_report_goes_through_many_postings_step_by_step(pool: Pool) -> None:
    execute(
        pool,
        "INSERT INTO ledger (user_id, amount, balance)"
        " SELECT 1, 1, 10000 + n FROM generate_series(1, 2500) n",
    )
    claim = claimed(pool, "report-ledger")
    run = Run(claim, pool.connection)
    report = json.loads(perform(shipped("report-ledger"), run, claim.args).value or "")
    rows = query(pool, "SELECT count(*), sum(amount)::int FROM ledger WHERE user_id = 1")
    assert rows == [(report["postings"], report["total"])]
    assert run.fraction == 1
    stopped = Run(claim, pool.connection)
    stopped.stop("cancelled")
    assert perform(shipped("report-ledger"), stopped, claim.args).outcome == "cancelled"
    assert 0 < (stopped.fraction or 0) < 1


def test_a_report_on_nobody_fails_for_good(pool: Pool) -> None:
    result = performed(pool, "report-ledger", user_id=2**63 - 1)
    assert (result.outcome, result.final) == ("failed", True)
    assert str(2**63 - 1) in (result.error or "")


def test_two_reports_run_at_once_in_the_whole_cluster(pool: Pool) -> None:
    store.declare(pool, [shipped("report-ledger")])
    asked(pool, 5, kind="report-ledger")
    assert len(taken(pool, "report-ledger")) == 2
    due(pool)
    assert taken(pool, "report-ledger") == []


def test_the_shipped_kinds_are_asked_for_over_http(pool: Pool) -> None:
    web = TaskWeb(pool, *(job for job in catalogue if job.schedule is None))
    asks: list[dict[str, Any]] = [
        {"name": "n", "processing_time": 3},
        {"name": "n", "kind": "count-words", "args": {"text": "a b"}},
        {"name": "n", "kind": "import-csv", "args": {"text": "a\n1", "delimiter": ";"}},
        {"name": "n", "kind": "report-ledger"},
    ]
    answers = [web.post("/tasks", ask) for ask in asks]
    assert [answer.status for answer in answers] == [201] * 4
    kinds = [row["kind"] for row in web.get("/tasks").body]
    assert kinds == ["report-ledger", "import-csv", "count-words", "processing"]
    assert len({UUID(answer.body["task_id"]) for answer in answers}) == 4
