"""`--json` prints what the API answers, field by field."""

import re
from typing import Any

import pytest

from cluster.database import Pool
from cluster.store import jobs, runs
from tests.integration.builders import (
    TaskWeb,
    a_job,
    a_kind,
    a_worker,
    asked,
    due,
    end,
    ended,
    execute,
    look,
    taken,
)
from tests.integration.command_line import CommandLine


@pytest.fixture
def cli(pool: Pool) -> CommandLine:
    """Return the command line over the test's database."""
    return CommandLine(pool)


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the API over a database with a bit of everything: firings, tasks, failures."""
    web = TaskWeb(pool, a_kind(max_running=1, retry_delay=0), a_kind(name="other"))
    tick = a_job(retry_delay=0)
    jobs.declare(pool, [tick, a_job(name="later", at_once=False, schedule="@every 1h")])
    worker = a_worker(pool, names=["tick", "work"])
    (claim,) = look(pool, worker).claims
    runs.finish(pool, [ended(pool, claim, "failed", job=tick, error="too blue")])
    due(pool)
    (claim,) = look(pool, worker).claims
    asked(pool, 3, args={"processing_time": 7, "more": {"a": [1, None]}})
    asked(pool, 1, kind="other", name="another", deadline="2999-01-01T00:00:00Z")
    for outcome in ("completed", "failed"):
        (task,) = taken(pool, worker=worker)
        end(pool, task, outcome, a_kind(), final=True)
    return web


def still(body: Any) -> Any:
    """Return an answer without what moves from one moment to the next."""
    if isinstance(body, list):
        return [still(each) for each in body]
    fields = {key: value for key, value in body.items() if key != "elapsed_seconds"}
    if fields.get("why"):
        fields["why"] = re.sub(r" \(in .*?\)", "", fields["why"])
    return fields


def same(ours: Any, theirs: Any) -> None:
    """Check that two answers are the same, and say something."""
    assert still(ours) == still(theirs)
    assert ours


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ("jobs", "/jobs"),
        ("jobs tick", "/jobs/tick"),
        ("jobs later", "/jobs/later"),
        ("history tick", "/jobs/tick/history"),
        ("history tick --limit 1", "/jobs/tick/history?limit=1"),
        ("tasks", "/tasks"),
        ("tasks --status error", "/tasks?status=ERROR"),
        ("tasks --status 1 --kind other --limit 5", "/tasks?status=1&kind=other&limit=5"),
        ("workers", "/workers"),
    ],
)
def test_a_list_or_a_job_is_what_the_api_answers(
    cli: CommandLine, web: TaskWeb, words: str, path: str
) -> None:
    same(cli.json(*words.split()), web.get(path).body)


def test_each_task_is_what_the_api_answers(cli: CommandLine, web: TaskWeb) -> None:
    listed = web.get("/tasks").body
    assert {each["status_name"] for each in listed} == {"NEW", "COMPLETED", "ERROR"}
    for each in listed:
        same(cli.json("task", each["task_id"]), web.get(f"/tasks/{each['task_id']}").body)


def test_a_change_answers_as_the_api_does(cli: CommandLine, web: TaskWeb, pool: Pool) -> None:
    same(cli.json("pause", "tick"), web.get("/jobs/tick").body)
    same(cli.json("pause", "other"), web.get("/kinds/other").body)
    same(cli.json("resume", "other"), web.get("/kinds/other").body)
    (failed,) = web.get("/tasks?status=ERROR").body
    same(cli.json("retry", failed["task_id"]), web.get(f"/tasks/{failed['task_id']}").body)
    same(cli.json("cancel", failed["task_id"]), web.get(f"/runs/{failed['task_id']}").body)
    run = web.get("/jobs/later").body["run_id"]
    assert cli.json("run", "later") == {"run_id": run, "job": "later"}
    same(cli.json("cancel", run), web.get(f"/runs/{run}").body)
    execute(pool, "UPDATE history SET outcome = 'failed' WHERE closing")
    assert cli.json("retry", "--kind", "work", "--failed") == {"retried": 2, "more": False}


def test_a_new_task_answers_as_the_api_does(cli: CommandLine, web: TaskWeb) -> None:
    done = cli.run("run", "other", "--name", "mine", "--priority", "5", "--json")
    assert done.exit_code == 0
    (task,) = web.get("/tasks?kind=other&limit=1").body
    assert done.stdout.split() == ["{", '"task_id":', f'"{task["task_id"]}"', "}"]
    assert (task["name"], task["priority"]) == ("mine", 5)
    assert "checked when it starts" in done.stderr  # the jobs of this tree have no such kind
