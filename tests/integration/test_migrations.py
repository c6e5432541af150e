"""Migrations: up and down, by several at once, after a kill, and before the database is there."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cluster.database import DatabaseUrlError, conninfo
from cluster.migrate import FOLDER, migrate, roll_back
from tests.eventually import eventually
from tests.integration.command_line import command

ROOT = Path(__file__).parents[2]
START = """
import sys
from pathlib import Path
from cluster.migrate import migrate
migrate(sys.argv[1], Path(sys.argv[2]))
"""
SCHEMA = """
    SELECT 'column', table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable,
        column_default, generation_expression, is_identity) FROM information_schema.columns
        WHERE table_schema = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'routine', oid::regprocedure::text, prosrc FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'relation', relname, concat_ws(' ', relkind, reloptions) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
    ORDER BY 1, 2, 3
    """


def rows(url: str, text: str) -> list[tuple[object, ...]]:
    """Return the rows of a statement on a connection of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def schema(url: str) -> list[tuple[object, ...]]:
    """Return everything of ours that is declared, without yoyo's own tables."""
    return [row for row in rows(url, SCHEMA) if "yoyo" not in str(row[1])]


@contextmanager
def started(url: str, folder: Path = FOLDER) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that migrates, and see to its end."""
    command = [sys.executable, "-c", START, url, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        yield process
        process.kill()


@pytest.fixture
def slow(empty_url: str, tmp_path: Path) -> Path:
    """Return a folder with a migration that takes as long as the table `pace` says."""
    rows(empty_url, "CREATE TABLE pace AS SELECT 4 AS seconds")
    (tmp_path / "0001_slow.sql").write_text(
        "CREATE TABLE IF NOT EXISTS slow (n integer);\nSELECT pg_sleep(seconds) FROM pace;\n"
    )
    (tmp_path / "0002_quick.sql").write_text("CREATE TABLE IF NOT EXISTS quick (n integer);\n")
    return tmp_path


def wait_until_it_is_under_way(url: str) -> None:
    """Wait until somebody is in the middle of the slow migration, then let it be quick."""
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND query ~ 'pg_sleep' AND wait_event = 'PgSleep'"
    )
    eventually(lambda: rows(url, query), within=60)
    rows(url, "DELETE FROM pace")


def test_up_down_and_up_again_make_the_same_schema(url: str) -> None:
    before = schema(url)
    roll_back(url)
    assert schema(url) == []
    assert migrate(url) == len(list(FOLDER.glob("*[!k].sql")))
    assert schema(url) == before


def test_every_migration_can_be_undone() -> None:
    ups = {path.name for path in FOLDER.glob("*.sql") if ".rollback" not in path.name}
    downs = {path.name.replace(".rollback", "") for path in FOLDER.glob("*.rollback.sql")}
    assert ups == downs


def test_a_second_start_has_nothing_to_do(url: str) -> None:
    before = schema(url)
    assert migrate(url) == 0
    assert schema(url) == before


def test_every_migration_bears_to_be_run_again(url: str) -> None:
    before = schema(url)
    rows(url, "UPDATE users SET balance = 1")
    rows(url, "DELETE FROM _yoyo_migration")
    migrate(url)
    assert schema(url) == before
    assert rows(url, "SELECT id, balance FROM users") == [(1, 1)]


def test_the_first_user_has_ten_thousand(url: str) -> None:
    assert rows(url, "SELECT id, balance FROM users") == [(1, 10_000)]
    assert rows(url, "SELECT user_id, sum(amount) FROM ledger GROUP BY 1") == [(1, 10_000)]


def test_five_that_start_at_once_all_succeed_and_one_migrates(empty_url: str) -> None:
    with (
        started(empty_url) as a,
        started(empty_url) as b,
        started(empty_url) as c,
        started(empty_url) as d,
        started(empty_url) as e,
    ):
        assert [process.wait(60) for process in (a, b, c, d, e)] == [0] * 5
    counts = rows(empty_url, "SELECT count(*) FROM _yoyo_migration GROUP BY migration_id")
    assert counts == [(1,)] * len(list(FOLDER.glob("*.rollback.sql")))
    assert rows(empty_url, "SELECT balance FROM users") == [(10_000,)]


def test_a_start_that_was_killed_in_a_migration_does_not_hinder_the_next(
    empty_url: str, slow: Path
) -> None:
    # The server may well go on with the statement of the one that was killed.
    with started(empty_url, slow) as killed:
        wait_until_it_is_under_way(empty_url)
        killed.kill()
        killed.wait()
    assert migrate(empty_url, slow) >= 1
    assert rows(empty_url, "SELECT count(*) FROM _yoyo_migration") == [(2,)]


def test_a_start_whose_server_session_died_in_a_migration_does_not_hinder_the_next(
    empty_url: str, slow: Path
) -> None:
    with started(empty_url, slow) as killed:
        wait_until_it_is_under_way(empty_url)
        killed.kill()
        killed.wait()
    rows(
        empty_url,
        "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    assert migrate(empty_url, slow) == 2
    assert rows(empty_url, "SELECT count(*) FROM _yoyo_migration") == [(2,)]


def test_a_start_that_loses_the_database_in_a_migration_goes_on_when_it_is_back(
    empty_url: str, slow: Path
) -> None:
    with started(empty_url, slow) as start:
        wait_until_it_is_under_way(empty_url)
        rows(
            empty_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        assert start.wait(60) == 0
    assert rows(empty_url, "SELECT count(*) FROM _yoyo_migration") == [(2,)]


def test_a_start_waits_for_a_migration_that_takes_longer_than_our_timeouts(
    empty_url: str, slow: Path
) -> None:
    with started(empty_url, slow) as first:
        wait_until_it_is_under_way(empty_url)
        assert migrate(empty_url, slow) == 0
        assert first.wait(60) == 0


def test_a_database_that_is_not_there_yet_is_waited_for(
    empty_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"ronin_{uuid4().hex}"
    later = make_conninfo(empty_url, dbname=name)
    starter = threading.Thread(target=migrate, args=(later,))
    starter.start()
    try:
        eventually(lambda: "waiting for the database" in caplog.text)
        create = sql.SQL("CREATE DATABASE {} TEMPLATE template1").format(sql.Identifier(name))
        rows(empty_url, create.as_string())
        eventually(lambda: rows(later, "SELECT balance FROM users") == [(10_000,)])
        starter.join(60)
        assert not starter.is_alive()
    finally:
        rows(empty_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_a_wrong_migration_is_an_error_and_leaves_nothing(empty_url: str, tmp_path: Path) -> None:
    (tmp_path / "0001_wrong.sql").write_text("CREATE TABLE half (n integer);\nSELECT 1 / 0;\n")
    with pytest.raises(psycopg.Error, match="division by zero"):
        migrate(empty_url, tmp_path)
    assert schema(empty_url) == []
    (tmp_path / "0001_wrong.sql").write_text("CREATE TABLE whole (n integer);\n")
    assert migrate(empty_url, tmp_path) == 1


@pytest.fixture
def guest_url(empty_url: str) -> Iterator[str]:
    """The URL of an empty database, for a role that may not create tables there."""
    role = f"guest_{uuid4().hex}"
    rows(empty_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    rows(empty_url, f"CREATE ROLE {role}")
    try:
        yield make_conninfo(empty_url, options=f"-c role={role}")
    finally:
        rows(empty_url, f"DROP ROLE {role}")


def test_a_role_that_may_not_create_tables_is_told_so(guest_url: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        migrate(guest_url)
    assert "may not create tables in schema public" in str(refused.value)
    assert "guest_" in str(refused.value)

    done = command("migrate", DATABASE_URL=guest_url)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"ronin: the database refuses: {refused.value}\n"


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql://u:hunter2@h:port/db",
        "postgresql://u:hunter2@h:²/db",
        "postgresql://u:hunter2@h:543210/db",
        "hunter2",
        "host='hunter2",
        b"postgresql://u:hunter2\xff@h/db".decode(errors="surrogateescape"),
    ],
    ids=ascii,
)
def test_a_url_that_makes_no_sense_is_refused_without_its_password(wrong: str) -> None:
    with pytest.raises(DatabaseUrlError) as refused:
        conninfo(wrong, "a start that would wait for ever")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("postgresql://me@h1,h2:5433/db", ",5433"),
        ("postgresql://me@h1:5433,h2/db", "5433,"),
        ("postgresql://me@h1,h2/db", ","),
        ("host=h1,h2 port=5433", "5433"),
        ("host=h1", None),
    ],
)
def test_of_several_hosts_each_may_have_a_port(url: str, port: str | None) -> None:
    assert conninfo_to_dict(conninfo(url, "several")).get("port") == port


def test_a_port_beside_others_is_a_number_too() -> None:
    with pytest.raises(DatabaseUrlError, match="its port is no number"):
        conninfo("postgresql://me@h1,h2:port/db", "several")
