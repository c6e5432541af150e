"""Builders: workers, jobs and runs in a database, and answers of the application over it."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, TypeVar, cast
from uuid import UUID

import falcon.testing
import psycopg
from hypothesis import HealthCheck, settings

from cluster import process
from cluster.database import Pool
from cluster.ending import Ending, ending_of
from cluster.job import Catalogue, Job
from cluster.perform import Result
from cluster.process import Identity
from cluster.run import Claim
from cluster.store import jobs, leases, looks, runs
from cluster.store.tasks import enqueue_many
from tests.eventually import eventually
from webapp.app import routes

T = TypeVar("T")

fuzz = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
"""Hypothesis over a database: no deadline, for the machine may be busy."""

NEVER = "0 0 1 1 *"
"""A schedule that fires once a year, at New Year."""

HERE = process.identity()
NOWHERE = Identity("another host", 1, 1)


def nothing() -> None:
    """Do nothing."""


def a_job(**settings: Any) -> Job:
    """Return a job `tick`, due at once where it is first seen, that waits for no spread."""
    defaults = {"name": "tick", "function": nothing, "schedule": NEVER, "spread": 0}
    return Job(**{**defaults, "at_once": True, **settings})


def catalogue_of(*declared: Job) -> Catalogue:
    """Return a catalogue of the jobs and kinds."""
    catalogue = Catalogue()
    for job in declared:
        declare = catalogue.job if job.schedule else catalogue.task
        declare(**job.model_dump(exclude={"function"}))(job.function)
    return catalogue


def query(pool: Pool, text: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a statement."""
    with pool.connection() as connection:
        return connection.execute(text, parameters).fetchall()


def value(pool: Pool, text: LiteralString, *parameters: Any) -> Any:
    """Return the first field of the first row."""
    return query(pool, text, *parameters)[0][0]


def execute(pool: Pool, text: LiteralString, *parameters: Any) -> None:
    """Execute a statement."""
    with pool.connection() as connection:
        connection.execute(text, parameters)


def a_worker(
    pool: Pool,
    *,
    process: Identity = HERE,
    names: Iterable[str] = ("tick",),
    lease: float = 600,
    name: str = "host:1",
) -> UUID:
    """Register a worker, and open the runs to claims."""
    worker = leases.register(pool, name, process, names, lease)
    execute(pool, "UPDATE opening SET opens_at = '-infinity'")
    settled(pool)
    return worker


def settled(pool: Pool, ago: float = 86400) -> None:
    """Say that the workers know this server for that many seconds."""
    execute(
        pool,
        "UPDATE server SET started_at = pg_postmaster_start_time(),"
        " since = now() - make_interval(secs => %s)",
        ago,
    )


def expire(pool: Pool, worker: UUID) -> None:
    """Let a lease run out, at a server that is known for longer."""
    execute(
        pool,
        "UPDATE worker SET lease = '1 ms', lease_until = now() - interval '1 ms' WHERE id = %s",
        worker,
    )
    settled(pool)


def tasks(
    pool: Pool, count: int, *, ago: float = 1, spread: float = 0, priority: int = 0
) -> list[UUID]:
    """Insert runs of `tick` that no schedule made, due for that many seconds."""
    jobs_row(pool)
    rows = query(
        pool,
        """
        INSERT INTO run (job, scheduled, name, args, priority, spread, due_at, not_before)
        SELECT 'tick', false, 'a tick', '{}', %s, make_interval(secs => %s), at, at
        FROM (SELECT now() - make_interval(secs => %s) AS at) a, generate_series(1, %s)
        RETURNING id
        """,
        priority,
        spread,
        ago,
        count,
    )
    return [row[0] for row in rows]


def jobs_row(pool: Pool, name: str = "tick") -> None:
    """Insert the row of a job that plans nothing."""
    execute(
        pool,
        """
        INSERT INTO job (name, function, description, declared_schedule, timezone, settings)
        VALUES (%s, 'f', '', %s, 'UTC', '{}') ON CONFLICT DO NOTHING
        """,
        name,
        NEVER,
    )


def look(
    pool: Pool,
    worker: UUID,
    *,
    names: Sequence[str] = ("tick",),
    load: int = 0,
    free: int = 10,
    phase: float = 0,
    limited: Sequence[str] = (),
) -> looks.Look:
    """Look at the database as a worker of this host does."""
    return looks.claim(pool, looks.Ask(worker, HERE.host, names, load, free, phase, limited))


def claimed(pool: Pool, job: Job | None = None, worker: UUID | None = None) -> Claim:
    """Return the claim of a job that was declared, due, and claimed by a worker."""
    job = job or a_job()
    jobs.declare(pool, [job])
    claims = look(pool, worker or a_worker(pool, names=[job.name]), names=[job.name]).claims
    assert len(claims) == 1
    return claims[0]


def ended(
    pool: Pool, claim: Claim, outcome: str = "completed", *, job: Job | None = None, **said: Any
) -> Ending:
    """Return how an attempt ended by the database's clock, not yet written."""
    return ending_of(claim, job or a_job(), Result(outcome, **said), value(pool, "SELECT now()"))


def outcomes(pool: Pool, job: str = "tick") -> list[str]:
    """Return the outcomes in a job's history, oldest first."""
    rows = query(
        pool, "SELECT outcome FROM history WHERE job = %s ORDER BY finished_at, attempt", job
    )
    return [row[0] for row in rows]


def together(count: int, act: Callable[[int], T]) -> list[T]:
    """Call a function in that many threads at one moment; return what they returned."""
    barrier = threading.Barrier(count)
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def perform(number: int) -> None:
        try:
            barrier.wait(30)
            results[number] = act(number)
        except BaseException as error:  # noqa: BLE001 - it is raised in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=perform, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(count)]


def beside(pool: Pool, act: Callable[[], T]) -> Callable[[], T]:
    """Call a function in a thread until it waits for a lock; return how to wait for its result."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(act)
    executor.shutdown(wait=False)
    eventually(
        lambda: value(
            pool,
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE a.datname = current_database() AND NOT l.granted",
        )
    )
    return future.result


def terminate_others(connection: psycopg.Connection[Any], application: str) -> None:
    """End every session of that application_name in this database."""
    connection.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = %s AND pid <> pg_backend_pid()
        """,
        (application,),
    )


@dataclass(frozen=True)
class Answer:
    """What the application answered."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def problem(self) -> str:
        """The last part of a problem's type; checks that it is one."""
        assert self.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail"} <= set(self.body)
        assert self.body["status"] == self.status
        return str(self.body["type"]).removeprefix("urn:ronin:problem:")


class Web:
    """The application over a pool, asked without a socket."""

    def __init__(self, pool: Pool) -> None:
        self._client = falcon.testing.TestClient(routes(pool))

    def ask(self, method: str, path: str, **how: Any) -> Answer:
        """Send a request."""
        found = self._client.simulate_request(method, path, **{"host": "localhost", **how})
        headers = {name.lower(): text for name, text in found.headers.items()}
        is_json = "json" in headers.get("content-type", "") and found.content
        return Answer(found.status_code, headers, found.json if is_json else found.text)

    def get(self, path: str, **how: Any) -> Answer:
        """Send a GET."""
        return self.ask("GET", path, **how)

    def change(self, amount: Any, *, user: int = 1, key: str | None = None) -> Answer:
        """Change a balance."""
        headers = {} if key is None else {"Idempotency-Key": key}
        path = f"/users/{user}/balance"
        return self.ask("POST", path, json={"amount": amount}, headers=headers)


class Lent:
    """A pool of one connection in a transaction that the test itself ends."""

    timeout = 3.0

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @contextmanager
    def connection(self, _timeout: float = timeout) -> Iterator[psycopg.Connection[Any]]:
        """Lend the connection, and commit nothing."""
        yield self._connection


@contextmanager
def transaction(pool: Pool) -> Iterator[tuple[Pool, psycopg.Connection[Any]]]:
    """Yield what looks like a pool, and its connection, in a transaction that ends with us."""
    with pool.connection() as connection, connection.transaction():
        yield cast(Pool, Lent(connection)), connection


def anything(
    processing_time: int = 0,
    factor: float = 1.0,
    note: str = "",
    more: dict[str, Any] | None = None,
) -> None:
    """Take arguments of many types, and do nothing."""
    del processing_time, factor, note, more


KIND = "work"


def a_kind(**settings: Any) -> Job:
    """Return a kind of tasks, `work`, that takes what `anything` takes."""
    return Job(**{"name": KIND, "function": anything, "spread": 0, **settings})


def asked(pool: Pool, count: int = 1, *, kind: str = "work", **fields: Any) -> list[UUID]:
    """Enqueue tasks as the application does; return their ids, in their order."""
    return [made.id for made in enqueue_many(pool, [{"kind": kind, **fields}] * count)]


def taken(
    pool: Pool, *names: str, worker: UUID | None = None, free: int = 10, limited: bool = True
) -> list[Claim]:
    """Return what a worker claims of these jobs, default `work`, those with a limit as well."""
    jobs_known = names or ("work",)
    worker = worker or a_worker(pool, names=jobs_known)
    limits = jobs_known if limited else ()
    return look(pool, worker, names=jobs_known, free=free, limited=limits).claims


def due(pool: Pool) -> None:
    """Make everything that waits due now."""
    execute(
        pool,
        "UPDATE run SET not_before = least(not_before, now() - interval '1 ms')"
        " WHERE token IS NULL",
    )


def end(pool: Pool, claim: Claim, outcome: str, kind: Job | None = None, **said: Any) -> None:
    """Write how an attempt of `work` ended."""
    runs.finish(pool, [ended(pool, claim, outcome, job=kind or a_kind(), **said)])


def finished(pool: Pool, outcome: str = "completed", **said: Any) -> UUID:
    """Return a task of `work` that is over."""
    (task,) = asked(pool)
    (claim,) = taken(pool)
    end(pool, claim, outcome, **({"final": True} | said))
    return task


class TaskWeb(Web):
    """The application over a pool and a catalogue of kinds that the test declares."""

    def __init__(self, pool: Pool, *kinds: Job, lease_seconds: float = 600) -> None:
        self.kinds = kinds or (a_kind(name="processing"), a_kind())
        jobs.declare(pool, self.kinds)
        self.catalogue = catalogue_of(*self.kinds)
        self._client = falcon.testing.TestClient(routes(pool, self.catalogue, lease_seconds))

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Answer:
        """Post JSON, or nothing."""
        headers = {} if key is None else {"Idempotency-Key": key}
        how = {} if body is None else {"json": body}
        return self.ask("POST", path, headers=headers, **how)

    def task(self, **fields: Any) -> Answer:
        """Ask for a task."""
        return self.post("/tasks", {"name": "n", "kind": "work", **fields})

    def shown(self, task: Any) -> dict[str, Any]:
        """Return a task as the application shows it."""
        found = self.get(f"/tasks/{task}")
        assert found.status == 200
        return cast(dict[str, Any], found.body)
