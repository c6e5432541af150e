"""Real gunicorns for system tests: started, watched, judged by the database, and always ended."""

import contextlib
import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString, Self
from uuid import uuid4

import httpx
import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.eventually import eventually

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
Row = tuple[Any, ...]

logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request would hide the rest


class Instance:
    """One running gunicorn and its log."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, port: int, log: Path) -> None:
        self.process = process
        self.name = name
        self.port = port
        self.log = log
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def get(self, path: str) -> Any:
        """Return the JSON behind a path."""
        return self.http.get(path).raise_for_status().json()

    def job(self, name: str) -> dict[str, Any]:
        """Return one job."""
        found: dict[str, Any] = self.get(f"/jobs/{name}")
        return found

    def said(self) -> str:
        """Return the log so far."""
        return self.log.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Return its living processes, whoever their parent is by now; not PostgreSQL's."""
        return [each for each in psutil.process_iter() if _belongs_to(each, self.name)]

    def workers(self) -> dict[str, psutil.Process]:
        """Return the worker processes by their names in the cluster."""
        children = psutil.Process(self.process.pid).children()
        return {f"{self.name}:{child.pid}": child for child in children}

    def signal(self, number: int) -> None:
        """Send a signal to the master."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill every process at once, as when the machine's memory is out."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(10)

    def wait(self, within: float = 40) -> int:
        """Return the exit status once it has ended."""
        return self.process.wait(within)

    def end(self) -> None:
        """End it in order if it goes fast, else by force."""
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self.kill()


@contextmanager
def gunicorn(
    url: str,
    folder: Path,
    *,
    env: dict[str, str] | None = None,
    arguments: Sequence[str] = (),
    command: Sequence[str] = ("gunicorn", "-c", "gunicorn.conf.py"),
    port: int | None = None,
) -> Iterator[Instance]:
    """Start the service as `gunicorn -c gunicorn.conf.py` does, and end it however it stands.

    Args:
        url: DATABASE_URL; empty for the embedded PostgreSQL in `folder`.
        folder: for the log and RONIN_DATA.
        env: further settings.
        arguments: further arguments of gunicorn.
        command: what is started in place of gunicorn.
        port: where it listens, if not on a free one.
    """
    port = port or free_port()
    name = f"i{uuid4().hex[:8]}"
    log = folder / f"{name}.log"
    variables = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "DATABASE_URL": url,
        "RONIN_DATA": str(folder / "data"),
        "PORT": str(port),
        "RONIN_INSTANCE": name,
        **(env or {}),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            env=variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    instance = Instance(process, name, port, log)
    try:
        yield instance
    except BaseException:
        sys.stderr.write(f"--- {log}\n{instance.said()[-20000:]}\n")
        raise
    finally:
        instance.end()


def ready(*instances: Instance) -> None:
    """Wait until the instances are ready for work."""
    for instance in instances:
        eventually(lambda i=instance: i.http.get("/health/ready").status_code == 200, within=60)  # type: ignore[misc] # bound at once


def free_port() -> int:
    """Return a port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


def _belongs_to(process: psutil.Process, name: str) -> bool:
    try:
        ours = process.environ().get("RONIN_INSTANCE") == name
        guard = ours and any("postmaster.py" in part for part in process.cmdline())
        return ours and not guard and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def job_module(folder: Path, source: str) -> dict[str, str]:
    """Write a module of jobs; return the settings under which an instance runs these alone."""
    (folder / "own_jobs.py").write_text(source)
    return {"PYTHONPATH": str(folder), "RONIN_JOBS": "own_jobs"}


# The embedded server of a folder.


@contextmanager
def server_of(data: Path) -> Iterator[str]:
    """Keep the embedded PostgreSQL of a folder running; give its URL."""
    script = "import sys; from pathlib import Path; from cluster.embedded import start\n"
    script += "print(start(Path(sys.argv[1])), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(data)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as holder:
        assert holder.stdout
        yield holder.stdout.readline().decode().strip()
        holder.communicate()


def of_server(data: Path, program: str = "") -> list[psutil.Process]:
    """Return the living processes that name the folder on their command line: server and guard."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        named = f"{data}/pg" in line or f'"{data}"' in line
        if named and program in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


# What the database says.


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """Make an empty database; give its URL."""
    name = sql.Identifier(text := f"ronin_{uuid4().hex}")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template1").format(name))
    try:
        yield make_conninfo(server_url, dbname=text)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def rows(url: str, query: LiteralString, **parameters: Any) -> list[Row]:
    """Run one statement on a connection of its own and return its rows, if it has any."""
    with psycopg.connect(url, autocommit=True, connect_timeout=3) as connection:
        cursor = connection.execute(query, parameters)
        return cursor.fetchall() if cursor.description else []


def now(url: str) -> Any:
    """Return the database's clock."""
    return rows(url, "SELECT clock_timestamp()")[0][0]


def held(url: str) -> dict[str, list[str]]:
    """Return the jobs under way by worker."""
    found: dict[str, list[str]] = {}
    for worker, job in rows(url, "SELECT worker, job FROM run WHERE token IS NOT NULL ORDER BY 2"):
        found.setdefault(worker, []).append(job)
    return found


def shares(url: str, jobs: int = 10) -> list[int]:
    """Wait until all jobs are under way; return how many each lease holder has, sorted."""
    query: LiteralString = """
        SELECT count(r.id) FROM worker w LEFT JOIN run r ON r.worker_id = w.id
        GROUP BY w.id ORDER BY 1
        """

    def all_under_way() -> list[int]:
        counts = [row[0] for row in rows(url, query)]
        assert sum(counts) == jobs
        return counts

    return eventually(all_under_way, within=40)


def outcomes(url: str) -> dict[str, int]:
    """Return how many attempts ended in which way."""
    return dict(rows(url, "SELECT outcome, count(*) FROM history GROUP BY 1"))


def completed(url: str) -> int:
    """Return how many different jobs have completed."""
    query: LiteralString = "SELECT count(DISTINCT job) FROM history WHERE outcome = 'completed'"
    number: int = rows(url, query)[0][0]
    return number


def unsound(url: str) -> dict[str, list[Row]]:
    """Return what contradicts the guarantees, by guarantee; empty if all of them hold."""
    found = {name: rows(url, query) for name, query in _CONTRADICTIONS.items()}
    return {name: contradictions for name, contradictions in found.items() if contradictions}


_CONTRADICTIONS: dict[str, LiteralString] = {
    "runs of a job do not overlap": """
        SELECT job, fence, started_at, before FROM (
            SELECT *, max(finished_at) OVER (PARTITION BY job ORDER BY fence
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
            FROM (
                SELECT job, fence, started_at, finished_at FROM history
                WHERE started_at IS NOT NULL AND outcome <> 'fenced'
                UNION ALL
                SELECT job, fence, started_at, 'infinity' FROM run WHERE token IS NOT NULL
            ) attempt
        ) a WHERE started_at < before
        """,
    "an attempt ends once": """
        SELECT token, count(*) FROM history WHERE outcome <> 'fenced'
        GROUP BY token HAVING count(*) > 1
        """,
    "a run completes once, and then it is over": """
        SELECT h.run_id FROM history h JOIN history later USING (run_id)
        WHERE h.outcome = 'completed' AND later.fence > h.fence
        UNION ALL
        SELECT h.run_id FROM history h JOIN run r ON r.id = h.run_id WHERE h.outcome = 'completed'
        """,
    "attempts are counted one by one": """
        SELECT run_id, max(attempt), count(*) FROM history WHERE outcome <> 'fenced'
        GROUP BY run_id HAVING max(attempt) <> count(*)
        """,
    "no run starts before it is due": "SELECT * FROM history WHERE started_at < due_at",
    "a fenced attempt had another end before": """
        SELECT * FROM history h WHERE outcome = 'fenced' AND NOT EXISTS (
            SELECT FROM history e WHERE e.token = h.token AND e.outcome <> 'fenced'
                AND e.finished_at <= h.finished_at)
        """,
    "each job has one run": """
        SELECT j.name, count(r.id) FROM job j LEFT JOIN run r ON r.job = j.name AND r.scheduled
        GROUP BY 1 HAVING count(r.id) <> 1
        """,
    "postings add up to the balance": """
        SELECT u.id, u.balance, sum(l.amount) FROM users u LEFT JOIN ledger l ON l.user_id = u.id
        GROUP BY u.id HAVING u.balance <> coalesce(sum(l.amount), 0) OR u.balance < 0
        """,
}


# Clients under load.


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got for a change of the balance; status 0 is no answer at all."""

    amount: int
    key: str | None
    status: int
    media: str
    body: dict[str, Any]
    seconds: float

    @property
    def possible_postings(self) -> set[int]:
        """How often the change may stand in the ledger, after this answer."""
        if self.status == 200:
            return {1}
        if self.status == 409 or "Nothing was changed" in str(self.body.get("detail")):
            return {0}
        return {0, 1}


def change(http: httpx.Client, amount: int, key: str | None) -> Answer:
    """Change the balance of user 1 once."""
    begun = time.monotonic()
    headers = {"Idempotency-Key": key} if key else {}
    try:
        got = http.post("/users/1/balance", json={"amount": amount}, headers=headers)
        status, media, body = got.status_code, got.headers["content-type"], got.json()
    except (httpx.HTTPError, ValueError) as error:
        status, media, body = 0, "", {"detail": repr(error)}
    return Answer(amount, key, status, media, body, time.monotonic() - begun)


@dataclass
class Clients:
    """Clients that change the balance of user 1 without a pause, each amount once in all.

    Attributes:
        instance: where they go.
        count: how many at once; every second of them sends an Idempotency-Key.
        answers: what they got so far.
    """

    instance: Instance
    count: int = 4
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(bool(n % 2),)) for n in range(self.count)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def statuses(self) -> set[int]:
        """Return the different answers so far."""
        return {answer.status for answer in self.answers}

    def await_answers(self, number: int, status: int = 200) -> None:
        """Wait until so many more answers of a status are there."""
        before = len(self.answers)
        eventually(lambda: sum(a.status == status for a in self.answers[before:]) >= number)

    def _work(self, keyed: bool) -> None:
        with httpx.Client(base_url=self.instance.http.base_url, timeout=30) as http:
            while not self._stop.is_set():
                number = next(self._numbers)
                for amount in (1_000_000 + number, -number):
                    key = uuid4().hex if keyed else None
                    self.answers.append(change(http, amount, key))


def misposted(url: str, answers: Sequence[Answer]) -> list[tuple[Answer, list[Row]]]:
    """Return the answers that the ledger contradicts, with what stands there."""
    posted: dict[int, list[Row]] = {}
    for amount, balance in rows(url, "SELECT amount, balance FROM ledger WHERE user_id = 1"):
        posted.setdefault(amount, []).append((amount, balance))
    wrong = []
    for answer in answers:
        found = posted.get(answer.amount, [])
        balance_fits = answer.status != 200 or found == [(answer.amount, answer.body["balance"])]
        if len(found) not in answer.possible_postings or not balance_fits:
            wrong.append((answer, found))
    return wrong
