"""A whole instance behind PgBouncer in transaction mode: nothing depends on a session."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cluster import database
from cluster.migrate import migrate
from cluster.store import jobs, runs
from cluster.store.looks import Ask
from tests.browser.chromium import APT, wanted_by_all_means
from tests.chaos.proxy import Proxy
from tests.eventually import eventually
from tests.integration.builders import HERE, a_job, a_worker
from tests.system.clients import Clients, misposted
from tests.system.facts import outcomes, rows, unsound
from tests.system.gunicorns import free_port, gunicorn, job_module, ready
from tests.system.test_tasks import over, post

PROGRAM = "/usr/sbin/pgbouncer"  # Debian's; /usr/sbin is not on everybody's PATH
NOBODY = 65534
POOL_SIZE = 12
IGNORING = "ignore_startup_parameters = options"
TASKS = 40

JOBS = """
from cluster import Run, job, task

def patient(run: Run) -> None:
    for step in range(200):
        run.progress(step / 200)
        run.wait(0.1)

for number in range(4):
    job(name=f"patient-{number}", every="1d", at_once=True)(patient)


@task(retry_delay=0, max_retries=100)
def count(run: Run, number: int) -> None:
    run.log.info("counting")
    with run.transaction() as connection:
        connection.execute("UPDATE counter SET value = value + 1 WHERE id = %s", (number % 5,))
        run.checkpoint(number)
    with run.transaction() as connection:
        connection.execute("UPDATE counter SET value = value + 1 WHERE id = %s", (number % 5,))
        run.finish()


@task(isolation="process")
def apart(run: Run) -> None:
    with run.transaction() as connection:
        connection.execute("UPDATE counter SET value = value + 1000 WHERE id = 0")
        run.finish()


@task(max_running=2)
def few(run: Run) -> None:
    run.wait(0.02)
"""

SETTINGS = """
SET statement_timeout = '5s'; SET lock_timeout = '2s';
SET idle_in_transaction_session_timeout = '10s'; SET jit = off
"""


class Start(Protocol):
    """Puts a PgBouncer in front of a database, and gives the URL of that."""

    def __call__(self, url: str, settings: str = IGNORING, query: str = "") -> str:
        """Start it with these lines of configuration, and a query for each session."""


@pytest.fixture(scope="module")
def program() -> str:
    """PgBouncer, installed as root from the packages of a Debian if need be."""
    found = shutil.which("pgbouncer") or shutil.which(PROGRAM)
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        install_once()
        found = shutil.which(PROGRAM)
    if not found:
        assert not wanted_by_all_means(), "on CI there has to be a pgbouncer"
        pytest.skip("there is no pgbouncer; on Debian: apt install pgbouncer")
    return found


def install_once() -> None:
    """Install it; of several processes of these tests one, and the others wait for that."""
    with (Path(tempfile.gettempdir()) / "ronin-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if shutil.which(PROGRAM):
            return
        wait = ("-o", "DPkg::Lock::Timeout=300")
        for step in (("update",), ("install", "-y", "--no-install-recommends", "pgbouncer")):
            subprocess.run([*APT, *wait, *step], capture_output=True, check=False)


@pytest.fixture
def start(program: str) -> Iterator[Start]:
    """A function that starts one in front of a database."""
    with ExitStack() as stack:

        def started(url: str, settings: str = IGNORING, query: str = "") -> str:
            return stack.enter_context(pgbouncer(program, url, settings, query))

        yield started


@contextmanager
def pgbouncer(program: str, url: str, settings: str, query: str) -> Iterator[str]:
    """Run PgBouncer in transaction mode in front of a database.

    Args:
        program: its path.
        url: of the database.
        settings: further lines of its configuration.
        query: what it runs in each session that it opens.
    """
    there = conninfo_to_dict(url)
    keys = ("host", "port", "user", "password")
    place = {key: str(there[key]) for key in keys if key in there}
    port, name = free_port(), there.get("dbname")
    as_root = os.geteuid() == 0  # it refuses to be, so it needs a way to the server that is open
    with ExitStack() as stack:
        if place.get("host", "/").startswith("/"):
            socket = f"{place.get('host', '/run/postgresql')}/.s.PGSQL.{place.get('port', 5432)}"
            proxy = stack.enter_context(Proxy(socket))
            place |= {"host": "127.0.0.1", "port": str(proxy.port)}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ronin-pgbouncer-")))
        folder.chmod(0o755)
        settled = " ".join(f"{key}={value}" for key, value in place.items())
        file, log = folder / "ini", folder / "log"
        file.write_text(
            f"[databases]\n* = {settled}{_quoted(query)}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n"
            f"default_pool_size = {POOL_SIZE}\nmax_client_conn = 500\n{settings}\n"
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, str(file)],
                user=NOBODY if as_root else None,
                extra_groups=[] if as_root else None,
                stdout=output,
                stderr=output,
                cwd="/",
            )
        pooled = make_conninfo(host="127.0.0.1", port=port, user="anybody", dbname=name)
        try:
            eventually(lambda: rows(pooled, "SELECT") is not None)
            yield pooled
        finally:
            process.terminate()
            process.wait(20)


def _quoted(query: str) -> str:
    text = " ".join(query.split()).replace("'", "''")
    return f" connect_query='{text}'" if text else ""


def test_the_probe_says_what_is_between_us_and_the_server(url: str, start: Start) -> None:
    direct, pooled = database.probe(url), database.probe(start(url))
    assert (direct.pooler, direct.differ) == (False, {})
    assert pooled.pooler
    assert pooled.differ["statement_timeout"] == "0"
    assert pooled.version == direct.version


def test_settings_of_the_pooler_are_found(url: str, start: Start) -> None:
    """Those that docs/operations.md gives; the rest is for the engine alone."""
    found = database.probe(start(url, query=SETTINGS))
    assert found.pooler
    assert found.differ.keys() <= {*database.ONE_PLAN, "search_path", "timezone"}


def test_a_pooler_that_refuses_settings_ends_the_start_with_what_to_do(
    url: str, start: Start, tmp_path: Path
) -> None:
    with gunicorn(start(url, settings=""), tmp_path) as instance:
        assert instance.wait() != 0
        assert "ignore_startup_parameters = options" in instance.said()


def test_times_are_utc_whatever_the_server_says(url: str, start: Start) -> None:
    name = sql.Identifier(str(conninfo_to_dict(url)["dbname"]))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Kolkata'").format(name))
    with database.pool(start(url), "ronin test", size=2) as pool, pool.connection() as connection:
        assert connection.execute("SELECT to_char(now(), 'OF')").fetchone() == ("+00",)


def test_instances_that_start_together_migrate_through_it(empty_url: str, start: Start) -> None:
    pooled = start(empty_url)
    with ProcessPoolExecutor(4, get_context("spawn")) as instances:
        applied = list(instances.map(migrate, [pooled] * 4))
    assert sorted(map(bool, applied)) == [False, False, False, True]


def test_turns_of_many_sessions_mix(url: str, start: Start) -> None:
    """Each of them would prepare its statements under the same names as the others."""
    pooled = start(url)
    with ExitStack() as stack:
        pools = [
            stack.enter_context(
                database.pool(pooled, "ronin engine", 1, spare=1, session=database.ONE_PLAN)
            )
            for _ in range(2 * POOL_SIZE)
        ]
        jobs.declare(pools[0], [a_job()])
        workers = [a_worker(pool) for pool in pools]
        for _ in range(12):
            with ThreadPoolExecutor(len(pools)) as threads:
                asks = [Ask(worker, HERE.host, ["tick"], 0, 1, 0.0) for worker in workers]
                looks = list(threads.map(lambda pool, ask: runs.turn(pool, [], ask), pools, asks))
                assert len(looks) == len(pools)


def test_an_instance_works_through_it_whatever_dies(url: str, start: Start, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE counter AS SELECT id, 0 AS value FROM generate_series(0, 4) id"
        )
    settings = {"WEB_CONCURRENCY": "3", "RONIN_LEASE_SECONDS": "60", **job_module(tmp_path, JOBS)}
    with gunicorn(start(url), tmp_path, env=settings) as cluster:
        ready(cluster)
        assert "a pooler lends us sessions" in cluster.said()
        eventually(lambda: len(patients(url)) == 4)
        with Clients(cluster, count=8) as clients:
            clients.await_answers(50)
            names = [post(cluster, "count", number=number) for number in range(TASKS)]
            names += [post(cluster, "few") for _ in range(TASKS)]
            names += [post(cluster, "apart")]
            cluster.workers()[patients(url)[0]].kill()
            eventually(lambda: "crashed" in outcomes(url))  # by proof: its lease is a minute
            clients.await_answers(200)
            cut_sessions(url)
            clients.await_answers(200)
        for name in names:
            over(cluster, name)
        assert cluster.get("/jobs/patient-0")["name"] == "patient-0"
        assert cluster.http.get("/metrics").status_code == 200
        eventually(lambda: outcomes(url).get("completed") == 4 + len(names), within=60)
        cluster.signal(signal.SIGTERM)
        assert cluster.wait() == 0
        assert misposted(url, clients.answers) == []
        assert {answer.status for answer in clients.answers} <= {
            0,
            200,
            409,
            503,
        }  # 0: the dead worker's
    # Two for each task, of which the first may be made again by another attempt; and the one apart.
    [(sums,)] = rows(url, "SELECT sum(value)::integer FROM counter")
    crashed = outcomes(url).get("crashed", 0)
    assert crashed >= 1
    assert 2 * TASKS + 1000 <= sums <= 2 * TASKS + 1000 + crashed
    assert "prepared statement" not in cluster.said()
    assert unsound(url) == {}


def patients(url: str) -> list[str]:
    """Return the workers that perform a patient job, each as often as it does."""
    query = "SELECT worker FROM run WHERE job LIKE 'patient%%' AND token IS NOT NULL"
    return [worker for (worker,) in rows(url, query)]


def cut_sessions(url: str) -> None:
    """End all that the pooler has at the server."""
    rows(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
