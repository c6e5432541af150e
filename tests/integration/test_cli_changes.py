"""What the command line changes is recorded once, with who; a refusal is one line and status 1."""

from typing import Any
from uuid import UUID

import pytest

from cluster.database import Pool
from cluster.job import catalogue
from cluster.store import jobs
from tests.integration.builders import (
    a_job,
    a_kind,
    a_worker,
    asked,
    due,
    execute,
    finished,
    query,
    taken,
    value,
)
from tests.integration.command_line import WHO, CommandLine

NONE = UUID(int=1)


@pytest.fixture
def cli(pool: Pool) -> CommandLine:
    """Return the command line over a database with a job `tick` and a kind `work`."""
    jobs.declare(pool, [a_job(at_once=False), a_kind()])
    return CommandLine(pool)


def recorded(pool: Pool) -> list[tuple[Any, ...]]:
    """Return what was recorded, oldest first, without when."""
    return query(pool, "SELECT who, what, target, detail FROM action ORDER BY id")


def test_each_change_is_recorded_with_who_did_it(cli: CommandLine, pool: Pool) -> None:
    run = value(pool, "SELECT id FROM run")
    assert cli.lines("run", "tick") == [str(run)]
    assert cli.lines("pause", "tick") == ["tick is paused"]
    assert cli.lines("resume", "tick") == ["tick is not paused"]
    assert cli.lines("pause", "work") == ["work is paused"]
    (task,) = asked(pool)
    assert cli.lines("cancel", task) == ["it will not run"]
    assert cli.lines("retry", task) == ["it waits again"]
    cli.lines("cancel", task)
    assert cli.lines("retry", "--kind", "work", "--failed") == ["1 task waits again"]
    assert cli.lines("retry", "--kind", "work", "--failed") == ["0 tasks wait again"]

    assert recorded(pool) == [
        (WHO, "run", "job:tick", {"run_id": str(run)}),
        (WHO, "pause", "job:tick", {}),
        (WHO, "resume", "job:tick", {}),
        (WHO, "pause", "kind:work", {}),
        (WHO, "cancel", f"run:{task}", {"job": "work"}),
        (WHO, "retry", f"run:{task}", {"job": "work"}),
        (WHO, "cancel", f"run:{task}", {"job": "work"}),
        (WHO, "retry-all", "kind:work", {"retried": 1}),
    ]
    assert WHO.startswith("cli ")
    assert "@" in WHO


def test_a_run_that_was_asked_for_by_the_command_line_starts(cli: CommandLine, pool: Pool) -> None:
    worker = a_worker(pool, names=["tick", "work"])
    cli.lines("run", "tick")
    done = cli.run("run", "work", "--args", '{"note": "hello"}', "--name", "mine")
    claims = taken(pool, "tick", "work", worker=worker)

    assert {claim.job for claim in claims} == {"tick", "work"}
    assert {str(claim.id) for claim in claims} >= {done.stdout.strip()}
    assert query(pool, "SELECT name, args FROM run WHERE job = 'work'") == [
        ("mine", {"note": "hello"})
    ]
    assert recorded(pool)[-1][1:] == (
        "create",
        f"run:{done.stdout.strip()}",
        {"kind": "work", "name": "mine"},
    )


def test_what_runs_is_told_to_stop(cli: CommandLine, pool: Pool) -> None:
    (task,) = asked(pool)
    taken(pool)
    assert cli.lines("cancel", task) == ["it runs, and was told to stop"]


def test_arguments_that_the_function_does_not_take_are_refused(
    cli: CommandLine, pool: Pool
) -> None:
    catalogue.load(("jobs",))
    jobs.declare(pool, [job for job in catalogue if job.name == "count-words"])

    reason = cli.refused("run", "count-words", "--args", '{"text": 1, "more": 2}')
    assert "text: Input should be a valid string" in reason
    assert "more: Extra inputs are not permitted" in reason
    assert "NUL" in cli.refused("run", "count-words", "--args", r'{"text": "a\u0000"}')
    assert query(pool, "SELECT 1 FROM run WHERE job = 'count-words'") == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("run nosuch", "there is no job or kind of tasks 'nosuch'"),
        ("run tock", "there is no job or kind of tasks 'tock'; did you mean tick?"),
        ("pause nosuch", "there is no job or kind of tasks 'nosuch'"),
        ("resume nosuch", "there is no job or kind of tasks 'nosuch'"),
        ("jobs work", "there is no job 'work'"),
        ("history nosuch", "there is no job or kind of tasks 'nosuch'"),
        ("tasks --kind tick", "there is no kind of tasks 'tick'"),
        (f"task {NONE}", f"there is no task {NONE}"),
        (f"cancel {NONE}", f"there is no run {NONE}"),
        (f"retry {NONE}", f"there is no task {NONE}"),
        ("retry --kind tick --failed", "there is no kind of tasks 'tick'"),
    ],
)
def test_what_is_not_there_is_refused(
    cli: CommandLine, pool: Pool, words: str, reason: str
) -> None:
    assert cli.refused(*words.split()).startswith(reason)
    assert recorded(pool) == []


def test_what_can_not_be_done_now_is_refused(cli: CommandLine, pool: Pool) -> None:
    execute(pool, "UPDATE job SET paused = true WHERE name = 'tick'")
    assert cli.refused("run", "tick") == "tick is paused; resume it first"
    execute(pool, "UPDATE job SET paused = false")
    due(pool)
    taken(pool, "tick", limited=False)
    assert cli.refused("run", "tick") == "tick is running; it never runs twice at once"
    task = finished(pool)
    assert cli.refused("cancel", task) == "the run is over: completed"
    assert cli.refused("retry", task) == "the task is COMPLETED, not ERROR"

    assert recorded(pool) == []


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "work", "--args", "[1]"],
        ["run", "work", "--args", '{"a": NaN}'],
        ["run", "work", "--args", '{"a": ' + "[" * 400 + "]" * 400 + "}"],
        ["run", "work", "--priority", "101"],
        ["run", "work", "--name", ""],
        ["run", "tick", "--args", "{}"],
        ["run", "tick", "--name", "mine"],
        ["retry"],
        ["retry", str(NONE), "--kind", "work", "--failed"],
        ["retry", "--kind", "work"],
        ["retry", str(NONE), "--failed"],
        ["cancel", "one"],
        ["tasks", "--status", "5"],
        ["tasks", "--limit", "0"],
        ["history", "--limit", "many"],
        ["nosuch"],
        ["completion", "tcsh"],
    ],
    ids=lambda words: "-".join(words)[:40],
)
def test_a_command_that_makes_no_sense_is_status_two(
    cli: CommandLine, pool: Pool, words: list[str]
) -> None:
    done = cli.run(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Error: " in done.stderr
    assert recorded(pool) == []


def test_a_task_is_shown_with_its_attempts(cli: CommandLine, pool: Pool) -> None:
    task = finished(pool, "failed", error="too blue")
    shown = cli.lines("task", task)
    assert "status             ERROR" in shown
    assert "error              too blue" in shown
    assert shown[-2].split()[:2] == ["ATTEMPT", "FINISHED"]
    assert shown[-1].split()[3] == "failed"
