"""What people read: 80 columns, no colour in a pipe, nothing that a terminal would obey."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from cluster.cli import status, tables
from cluster.database import Pool
from cluster.store import jobs
from tests.integration.builders import (
    a_job,
    a_kind,
    a_worker,
    asked,
    due,
    end,
    execute,
    finished,
    taken,
    value,
)
from tests.integration.command_line import NOWHERE, CommandLine, command

ROOT = Path(__file__).parent.parent.parent
EVIL = "\x1b[31mred\x1b[0m\n[bold]:smile:\u202e" + "x" * 150
SHOWN = "\ufffd[31mred\ufffd[0m [bold]:smile:\ufffd"


@pytest.fixture
def cli(pool: Pool) -> CommandLine:
    """Return the command line over a database with a job `tick` and a kind `work`."""
    jobs.declare(pool, [a_job(at_once=False), a_kind(max_running=1)])
    return CommandLine(pool)


@pytest.fixture
def busy(cli: CommandLine, pool: Pool) -> CommandLine:
    """Return the same with a run under way, tasks that wait, and failures; all with long names."""
    finished(pool, "failed", error=EVIL)
    worker = a_worker(pool, names=["tick", "work"], name="a-host-with-a-long-name.example:4711")
    asked(pool, 3, name=EVIL)
    due(pool)
    taken(pool, "work", worker=worker)
    return cli


@pytest.mark.parametrize(
    "words",
    ["status", "jobs", "jobs tick", "history", "history work", "tasks", "workers", "config check"],
)
def test_80_columns_are_enough_and_no_colour_is_in_a_pipe(busy: CommandLine, words: str) -> None:
    lines = busy.lines(*words.split())
    assert lines
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    assert not any(letter < " " or letter in "\x7f\u202e" for line in lines for letter in line)


def test_a_name_is_shown_as_it_is_and_no_terminal_obeys_it(busy: CommandLine, pool: Pool) -> None:
    task = value(pool, "SELECT id FROM run WHERE job = 'work' LIMIT 1")
    text = " ".join(" ".join(busy.lines("task", task)).split())
    assert SHOWN in text
    assert "\x1b" not in text
    assert orjson.loads(busy.run("task", task, "--json").stdout)["name"] == EVIL


def test_an_id_is_never_cut(busy: CommandLine) -> None:
    ids = {str(row["task_id"]) for row in busy.json("tasks")}
    assert len(ids) == 4
    assert {line.split()[0] for line in busy.lines("tasks")} >= ids


def test_status_says_who_works_what_runs_what_waits_and_why_and_what_failed(
    busy: CommandLine,
) -> None:
    text = " ".join(" ".join(busy.lines("status")).split())
    assert "workers 2 under way 1 tasks waiting 2 failed 1" in text
    assert "at work" in text
    assert "work, 2 tasks limit of 1 full, held by" in text
    assert "tick a worker takes it at its next look" in text
    assert "failed" in text

    seen = busy.json("status")
    assert [row["load"] for row in seen["workers"]] == [1, 0]
    assert [(row["job"], row["attempt"]) for row in seen["running"]] == [("work", 1)]
    assert [(row["job"], row["tasks"], row["word"]) for row in seen["waiting"]] == [
        ("work", 2, "limit"),
        ("tick", None, "free_worker"),
    ]
    assert [(row["outcome"], row["error"]) for row in seen["failures"]] == [("failed", EVIL)]


def test_status_of_an_idle_cluster_is_told_in_sentences(pool: Pool) -> None:
    lines = CommandLine(pool).lines("status")
    for said in (
        "No worker is at work.",
        "Nothing is under way.",
        "Nothing waits.",
        "Nothing has failed in the last hour.",
    ):
        assert said in lines


def test_a_run_that_failed_and_is_tried_again_is_one_failure(cli: CommandLine, pool: Pool) -> None:
    kind = a_kind(max_running=1, retry_delay=0)
    asked(pool)
    worker = a_worker(pool, names=["work"])
    for error in ("first", "second"):
        (claim,) = taken(pool, worker=worker)
        end(pool, claim, "failed", kind, error=error)
    (failure,) = cli.json("status")["failures"]
    assert (failure["attempt"], failure["error"]) == (2, "second")


def test_what_does_not_fit_is_counted_and_who_has_little_is_shown_whole() -> None:
    assert status.shares([1, 100, 100, 2], 23) == [1, 10, 10, 2]
    assert status.shares([0, 0, 0, 0], 23) == [0, 0, 0, 0]
    assert sum(status.shares([9, 9, 9, 9], 23)) == 23


def test_colours_are_for_terminals_without_no_color(busy: CommandLine) -> None:
    """A pipe gets none whatever is asked for, as scripts read it."""
    for wish in ({"FORCE_COLOR": "1"}, {"TERM": "xterm-256color"}):
        assert "\x1b" not in busy.run("status", **wish).stdout


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (0, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (3700, "1 h 1 min")],
)
def test_a_length_of_time_has_its_two_greatest_units(seconds: float | None, said: str) -> None:
    assert tables.lasted(seconds) == said


def test_a_moment_is_utc() -> None:
    assert tables.moment(datetime(2027, 1, 31, 12, 0, 5, 999, UTC)) == "2027-01-31 12:00:05"


@pytest.mark.parametrize(
    "words",
    ["status", "jobs", "run tick", "tasks", "workers", "history", "verify --quiet"],
)
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (NOWHERE, "the database can't be reached: "),
        ("postgresql://[", "DATABASE_URL: not a libpq URL"),
        (None, "there is no database in "),
    ],
    ids=["refused", "nonsense", "none"],
)
def test_without_a_database_the_exit_status_is_two_with_one_line(
    words: str, url: str | None, reason: str, tmp_path: Path
) -> None:
    done = command(*words.split(), DATABASE_URL=url, RONIN_DATA=str(tmp_path / "data"))
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ronin: {reason}")
    assert not (tmp_path / "data").exists()


def test_migrate_says_as_well_that_there_is_no_database() -> None:
    done = command("migrate", DATABASE_URL=NOWHERE)
    assert (done.exit_code, done.stdout) == (2, "")


def test_without_a_command_sound_settings_are_fine() -> None:
    """The Procfile asks that, and shows nobody anything."""
    done = command(DATABASE_URL=NOWHERE)
    assert (done.exit_code, done.output) == (0, "")


def test_a_database_without_tables_is_told_what_to_do_and_migrate_does_it(empty_url: str) -> None:
    before = command("jobs", DATABASE_URL=empty_url)
    assert (before.exit_code, before.stdout) == (2, "")
    assert "no tables of Ronin yet: `migrate` makes them" in before.stderr

    first, again = (command("migrate", DATABASE_URL=empty_url) for _ in range(2))
    there = [path for path in ROOT.glob("migrations/*.sql") if "rollback" not in path.name]
    assert first.stdout == f"{len(there)} migrations applied\n"
    assert again.stdout == "the tables are up to date\n"
    assert command("jobs", DATABASE_URL=empty_url).stdout == "No job was declared yet.\n"


def test_config_check_says_where_each_setting_comes_from_and_hides_secrets() -> None:
    secret = "a-secret-of-16-and-more"  # noqa: S105 - nobody's
    done = command(
        "config",
        "check",
        "--json",
        DATABASE_URL=f"postgresql://me:{secret}@host/name?sslpassword={secret}",
        RONIN_TOKEN=secret,
        RONIN_READ_TOKEN=f"{secret}-2",
        RONIN_TOKENS=f"ann:read:{secret}-3,bob:operate:{secret}-4",
        RONIN_LEASE_SECONDS="20",
        WEB_CONCURRENCY=None,
    )
    assert (done.exit_code, done.stderr) == (0, "")
    assert secret not in done.stdout
    found = {row["name"]: (row["value"], row["source"]) for row in orjson.loads(done.stdout)}
    assert found["RONIN_LEASE_SECONDS"] == ("20.0", "environment")
    assert found["WEB_CONCURRENCY"] == ("5", "default")
    assert found["RONIN_TOKENS"] == ("ann:read:(hidden), bob:operate:(hidden)", "environment")
    assert found["RONIN_TOKEN"] == ("(hidden)", "environment")
    address, _ = found["DATABASE_URL"]
    assert "host=host" in address
    assert "user=me" in address


@pytest.mark.parametrize(
    ("words", "variable", "text", "reason"),
    [
        ("config check", "RONIN_LEASE_SECONDS", "soon", "RONIN_LEASE_SECONDS=soon: "),
        ("config check", "RONIN_TOKEN", "short", "RONIN_TOKEN: a secret has"),
        ("config check", "DATABASE_URL", "postgresql://me:geheim@[", "DATABASE_URL: not a libpq"),
        ("config check", "BIND", "0.0.0.0", "BIND=0.0.0.0 lets others in: set RONIN_TOKEN, "),
        ("config check", "RONIN_JOBS", "nosuch", "RONIN_JOBS names 'nosuch', and there is no "),
        ("jobs", "RONIN_LEASE_SECONDS", "soon", "RONIN_LEASE_SECONDS=soon: "),
        ("", "RONIN_LEASE_SECONDS", "soon", "RONIN_LEASE_SECONDS=soon: "),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line_that_names_it(
    words: str, variable: str, text: str, reason: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster", *words.split()],
        env={**os.environ, variable: text},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ronin: {reason}")
    assert "geheim" not in line


def test_help_and_completion_need_neither_settings_nor_data() -> None:
    nonsense = {"DATABASE_URL": NOWHERE, "PORT": "nonsense"}
    text = command("--help", **nonsense).stdout
    assert "Exit status:" in text
    for name in ("status", "retry", "config", "completion"):
        assert name in text
    for shell in ("bash", "zsh", "fish"):
        done = command("completion", shell, **nonsense)
        assert done.exit_code == 0
        assert "_RONIN_COMPLETE" in done.stdout


def test_a_shell_completes_commands_and_names(pool: Pool) -> None:
    jobs.declare(pool, [a_job(), a_kind()])

    def offered(line: str, **settings: str) -> list[str]:
        words = line.split(" ")
        script = "import sys; sys.argv = ['ronin']; from cluster.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={
                **os.environ,
                "DATABASE_URL": str(pool.conninfo),
                "_RONIN_COMPLETE": "bash_complete",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(words) - 1),
                **settings,
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        return [each.partition(",")[2] for each in done.stdout.splitlines() if each]

    assert offered("ronin pa") == ["pause"]
    assert offered("ronin pause t") == ["tick"]
    assert offered("ronin retry --kind w") == ["work"]
    assert offered("ronin tasks --status E") == ["error"]
    assert offered("ronin pause t", DATABASE_URL=NOWHERE) == []


def test_verify_prints_json(cli: CommandLine, pool: Pool) -> None:
    checked = cli.json("verify")
    assert {each["violations"] == [] for each in checked} == {True}
    execute(pool, "UPDATE users SET balance = balance + 1")
    done = cli.run("verify", "--json")
    assert done.exit_code == 1
    assert len([each for each in orjson.loads(done.stdout) if each["violations"]]) == 1
