"""`verify`: each invariant is seen broken by data that breaks it, and else it holds."""

import os
import subprocess
import sys
from pathlib import Path
from typing import LiteralString

import pytest

from cluster.database import Pool
from cluster.store import checks, jobs, runs
from tests.integration.builders import (
    a_job,
    a_kind,
    a_worker,
    asked,
    end,
    ended,
    execute,
    look,
    taken,
)

ROOT = Path(__file__).parent.parent.parent


def broken(pool: Pool) -> list[str]:
    with pool.connection() as connection:
        return [name for name, found in checks.contradictions(connection) if found]


@pytest.fixture
def lived(pool: Pool) -> Pool:
    """A database with a bit of everything: firings, tasks, failures, what is under way."""
    tick = a_job(schedule="@every 1h", retry_delay=0)
    kind = a_kind(retry_delay=0)
    jobs.declare(pool, [tick, kind])
    worker = a_worker(pool, names=["tick", "work"])
    for outcome in ("failed", "completed"):
        (claim,) = look(pool, worker).claims
        runs.finish(pool, [ended(pool, claim, outcome, job=tick)])
    asked(pool, 3)
    first, second, _ = taken(pool, worker=worker)
    end(pool, first, "completed", kind)
    end(pool, second, "failed", kind)
    execute(
        pool,
        "UPDATE run SET due_at = date_trunc('hour', now()) - interval '30 h',"
        " not_before = now() WHERE scheduled",
    )
    (claim,) = look(pool, worker).claims
    execute(pool, "UPDATE job SET scheduled_at = now() - interval '2 d'")
    runs.finish(pool, [ended(pool, claim, job=tick)])
    execute(pool, "CALL change_balance(1, -5, NULL, NULL, NULL)")
    return pool


def test_all_invariants_hold_for_data_of_the_engine(lived: Pool) -> None:
    assert broken(lived) == []


BREAK: dict[str, tuple[LiteralString, ...]] = {
    "runs of a job do not overlap": (
        (
            "UPDATE history SET finished_at = finished_at + interval '1 s', started_at = started_at"
            " WHERE outcome = 'failed' AND job = 'tick'"
        ),
    ),
    "an attempt ends once": (
        "INSERT INTO history SELECT * FROM history WHERE outcome = 'failed' AND job = 'work'",
    ),
    "an attempt under way has not ended": (
        (
            "UPDATE run SET token = (SELECT token FROM history WHERE outcome = 'completed' LIMIT 1)"
            " WHERE token IS NOT NULL"
        ),
    ),
    "a run completes once, and then it is over": (
        "UPDATE history SET outcome = 'completed' WHERE outcome = 'failed' AND job = 'work'",
        "UPDATE history SET outcome = 'completed' WHERE outcome = 'failed' AND job = 'tick'",
    ),
    "tokens grow: the fence of an attempt is greater than of the one before": (
        "UPDATE history SET fence = 0 WHERE outcome = 'completed' AND attempt = 2",
        "UPDATE history SET fence = 1 WHERE token IS NOT NULL",
    ),
    "attempts are counted one by one": (
        "DELETE FROM history WHERE outcome = 'failed' AND job = 'tick'",
    ),
    "no run starts before it is due": (
        "UPDATE history SET due_at = started_at + interval '1 ms' WHERE job = 'work'",
    ),
    "a fenced attempt had another end before": (
        "UPDATE history SET outcome = 'fenced' WHERE outcome = 'failed' AND job = 'work'",
    ),
    "a task is closed once, and then it is over": (
        "UPDATE history SET closing = true WHERE job = 'work' AND outcome = 'failed'",
        "INSERT INTO history SELECT * FROM history WHERE closing",
    ),
    "each job has one run": ("DELETE FROM run WHERE scheduled",),
    "a firing has one fate": (
        (
            "INSERT INTO history (run_id, job, attempt, due_at, finished_at, outcome)"
            " SELECT uuid7(), job, 0, due_at, now(), 'missed' FROM history WHERE outcome = 'missed'"
            " LIMIT 1"
        ),
    ),
    "no run is held by nobody": (
        (
            "UPDATE run SET worker_id = uuid7(), started_at = now() - interval '2 min'"
            " WHERE token IS NOT NULL"
        ),
    ),
    "no limit is exceeded": (
        (
            "UPDATE job SET max_running = 1 WHERE name = 'work';"
            " INSERT INTO run (job, scheduled, name, args, due_at, not_before, token, fence,"
            " worker_id, worker, started_at, attempt) SELECT job, false, name, args, due_at,"
            " not_before, uuid7(), nextval('fence'), worker_id, worker, started_at, 1 FROM run"
            " WHERE token IS NOT NULL"
        ),
    ),
    "postings add up to the balance, which is not negative": (
        "UPDATE users SET balance = balance + 1",
        "DELETE FROM ledger WHERE amount = -5",
    ),
    "every firing has a fate": (
        (
            "DELETE FROM history WHERE outcome = 'missed' AND due_at = (SELECT min(due_at)"
            " FROM history WHERE outcome = 'missed')"
        ),
        "UPDATE run SET due_at = due_at + interval '1 h' WHERE scheduled",
    ),
}


@pytest.mark.parametrize(
    ("invariant", "damage"),
    [(name, statement) for name, statements in BREAK.items() for statement in statements],
)
def test_damage_is_found(lived: Pool, invariant: str, damage: LiteralString) -> None:
    execute(lived, damage)
    assert invariant in broken(lived)


def test_every_invariant_was_seen_broken() -> None:
    assert set(BREAK) == set(checks.CHECKS)


def test_lost_firings_that_share_a_row_have_a_fate(pool: Pool) -> None:
    tick = a_job(schedule="@every 1m")
    jobs.declare(pool, [tick])
    execute(pool, "UPDATE job SET scheduled_at = now() - interval '20 d'")
    execute(
        pool,
        "UPDATE run SET due_at = date_trunc('minute', now()) - interval '14 d', not_before = now()",
    )
    (claim,) = look(pool, a_worker(pool)).claims
    runs.finish(pool, [ended(pool, claim, job=tick)])
    assert broken(pool) == []
    execute(pool, "DELETE FROM history WHERE due_until IS NOT NULL")
    assert broken(pool) == ["every firing has a fate"]


def verify(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cluster", "verify", *arguments],
        env={**os.environ, "DATABASE_URL": url},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_says_what_it_found(lived: Pool, url: str) -> None:
    good = verify(url)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.splitlines()[-1] == f"{len(checks.CHECKS)} invariants checked, 0 violated"
    execute(lived, "UPDATE users SET balance = balance + 1")
    bad = verify(url, "--quiet")
    assert bad.returncode == 1
    assert bad.stdout.splitlines() == [
        "VIOLATED  postings add up to the balance, which is not negative",
        "          1, 9996, 9995",
        f"{len(checks.CHECKS)} invariants checked, 1 violated",
    ]


@pytest.mark.parametrize(
    "url", ["postgresql://nobody@127.0.0.1:1/nothing", "postgresql://[", "dbname=x port=y"]
)
def test_without_data_the_command_says_so(url: str) -> None:
    found = verify(url)
    assert (found.returncode, found.stdout) == (2, "")
    assert len(found.stderr.splitlines()) == 1


def test_a_database_without_the_tables_is_no_traceback(empty_url: str) -> None:
    found = verify(empty_url)
    assert found.returncode == 2
    assert "Traceback" not in found.stderr
