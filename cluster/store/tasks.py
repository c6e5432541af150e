"""Tasks: runs that somebody asked for; from the first word to the last."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, Protocol
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row

from cluster import tracing
from cluster.database import Pool
from cluster.store import actions
from cluster.store.runs import json
from cluster.store.views import Row

NEW, PROCESSING, COMPLETED, ERROR = 1, 2, 3, 4
STATUS_NAMES = {NEW: "NEW", PROCESSING: "PROCESSING", COMPLETED: "COMPLETED", ERROR: "ERROR"}


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one task that was asked for.

    Attributes:
        id: of the task, perhaps of the one that its key has made before.
        verdict: `new`, `known` (made before by the same request), `key_reused` (by another).
    """

    id: UUID
    verdict: str


class KeyReusedError(Exception):
    """An idempotency key belongs to a different request; nothing was made.

    Attributes:
        place: of the first such task, counted from 0.
    """

    def __init__(self, place: int) -> None:
        super().__init__(f"the idempotency key of task {place} belongs to a different request")
        self.place = place


_ONE: LiteralString = """
    INSERT INTO run (id, job, scheduled, name, args, priority, due_at, not_before, start_by,
        max_retries)
    SELECT uuid7(t.now), t.kind, false, coalesce(t.name, t.kind), coalesce(t.args, '{}'),
        coalesce(t.priority,
            (SELECT (j.settings ->> 'priority')::smallint FROM job j WHERE j.name = t.kind), 0),
        coalesce(t.run_at, t.now), coalesce(t.run_at, t.now), t.deadline, t.max_retries
    FROM (SELECT *, clock_timestamp() AS now FROM jsonb_to_record(%s::jsonb) AS r (kind text,
        args jsonb, name text, priority smallint, run_at timestamptz, max_retries smallint,
        deadline timestamptz) OFFSET 0) t
    RETURNING id, 'new'
    """
# What `enqueue_keyless` does for many; for one, arrays and a function cost more than the row.


def enqueue_many(
    pool: Pool, tasks: Sequence[Mapping[str, Any]], by: str | None = None
) -> list[Made]:
    """Enqueue tasks, all or none; return what became of each, in their order.

    Args:
        pool: any.
        tasks: the parameters of the SQL function `enqueue`, checked by the caller.
        by: who wants it, for the record; what programs ask for is not recorded.

    Raises:
        KeyReusedError: a key belongs to a different request.
    """
    keyed = _keyed(tasks)
    # Only a key can be a reason to take it back; and a transaction costs two round trips more.
    with _enqueuing(pool, tasks, whole=keyed or by is not None) as connection:
        if keyed:
            query = "SELECT id, verdict FROM enqueue_many(%s)"
            found = [Made(*row) for row in connection.execute(query, (json(tasks),))]
        else:
            found = enqueue_keyless(connection, tasks)
        for place, each in enumerate(found):
            if each.verdict == "key_reused":
                raise KeyReusedError(place)
            if each.verdict == "new" and by is not None:
                named = {key: tasks[place].get(key) for key in ("kind", "name")}
                actions.record(connection, by, "create", f"run:{each.id}", **named)
    return found


def enqueue_keyless(connection: Connection[Any], tasks: Sequence[Mapping[str, Any]]) -> list[Made]:
    """Enqueue tasks without keys on a connection, by one statement; return them in their order."""
    if len(tasks) == 1:
        made = connection.execute(_ONE, (json(tasks[0]),))
    else:
        query = "SELECT id, 'new' FROM enqueue_keyless(%s) AS id"
        made = connection.execute(query, (json(_columns(tasks)),))
    return [Made(*row) for row in made]


def enqueue_batch(pool: Pool, tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Enqueue tasks, all or none, as `enqueue_many`; return their ids as text, in their order.

    Text in one piece: ten thousand rows are as many objects that somebody has to make and sweep.

    Args:
        pool: any.
        tasks: the parameters of the SQL function `enqueue`, checked by the caller.

    Raises:
        KeyReusedError: a key belongs to a different request.
    """
    if _keyed(tasks):
        return [str(each.id) for each in enqueue_many(pool, tasks)]
    query = "SELECT string_agg(id::text, ' ') FROM enqueue_keyless(%s) AS id"
    with _enqueuing(pool, tasks) as connection:
        row = connection.execute(query, (json(_columns(tasks)),)).fetchone()
    return row[0].split() if row and row[0] else []


@contextmanager
def _enqueuing(
    pool: Pool, tasks: Sequence[Mapping[str, Any]], *, whole: bool = False
) -> Iterator[Connection[Any]]:
    """Lend a connection, in one transaction if all is to be `whole`, or belongs to a trace."""
    traced = tracing.configured()
    with (
        pool.connection() as connection,
        connection.transaction() if whole or traced else nullcontext(),
        tracing.enqueue(connection, [each["kind"] for each in tasks]) if traced else nullcontext(),
    ):
        yield connection


def _keyed(tasks: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of them may be there by its key."""
    return any(task.get("idempotency_key") is not None for task in tasks)


def _columns(tasks: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return each parameter that occurs as a list of the tasks' values."""
    return {name: [task.get(name) for task in tasks] for name in set().union(*tasks)}


class DbApiConnection(Protocol):
    """A connection of any driver whose placeholders are `%s`, such as psycopg or pg8000."""

    def cursor(self) -> Any:
        """Return a cursor."""


def enqueue(  # noqa: PLR0913 - the parameters of the SQL function, by name
    connection: DbApiConnection,
    kind: str,
    args: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    priority: int | None = None,
    run_at: datetime | None = None,
    max_retries: int | None = None,
    idempotency_key: str | None = None,
    deadline: datetime | None = None,
) -> UUID:
    """Enqueue a task in the transaction of a connection: it exists if and only if that commits.

    Args:
        connection: the caller's; it is not committed here.
        kind: the name of a task's function.
        args: its arguments, as JSON can carry them; checked when the task starts.
        name: for people; default the kind.
        priority: higher first, -100 to 100; default the kind's.
        run_at: not before this moment.
        max_retries: failures after which it is given up; default the kind's.
        idempotency_key: the same key gives the same task, for a day.
        deadline: not started by then, it is dropped as missed.

    Returns:
        The task's id.

    Raises:
        Exception: the driver's own error, for an unknown kind (SQLSTATE 22023) or a key that
            has made a different task (23505).
    """
    query = """
        SELECT CAST(enqueue(kind => CAST(%s AS text), args => CAST(%s AS jsonb),
            name => CAST(%s AS text), priority => CAST(%s AS integer),
            run_at => CAST(%s AS timestamptz), max_retries => CAST(%s AS integer),
            idempotency_key => CAST(%s AS text), deadline => CAST(%s AS timestamptz)) AS text)
        """
    given = (kind, json(args or {}), name, priority, run_at, max_retries, idempotency_key, deadline)
    cursor = connection.cursor()
    try:
        cursor.execute(query, given)
        return UUID(cursor.fetchone()[0])
    finally:
        cursor.close()


SHOWN: LiteralString = """
    task_id, name, (args -> 'processing_time')::text AS processing_time, status, kind, attempt,
    failures, worker, priority, max_retries, uuid7_time(task_id) AS created_at, run_at, deadline,
    started_at, finished_at, outcome, error, progress
    """

LIVE: LiteralString = """
    SELECT r.id AS task_id, r.name, r.job AS kind, r.args,
        CASE WHEN r.token IS NULL THEN 1 ELSE 2 END AS status, r.attempt, r.failures, r.worker,
        r.priority, r.max_retries, r.not_before AS run_at,
        nullif(r.start_by, '-infinity') AS deadline, r.started_at,
        NULL::timestamptz AS finished_at, NULL::text AS outcome, r.error, r.progress,
        NULL::jsonb AS result
    """

CLOSED: LiteralString = """
    SELECT h.run_id AS task_id, h.name, h.job AS kind, h.args,
        CASE WHEN h.outcome = 'completed' THEN 3 ELSE 4 END AS status, h.attempt, h.failures,
        h.worker, h.priority, h.max_retries, h.due_at AS run_at, NULL::timestamptz AS deadline,
        h.started_at, h.finished_at, h.outcome, h.error,
        CASE WHEN h.outcome = 'completed' THEN 1::real END AS progress, h.result
    FROM history h
    """


def get(pool: Pool, task: UUID) -> Row | None:
    """Return a task wherever it is in its life, or None; with arguments and result.

    These and `processing_time` are JSON text: a number of PostgreSQL's may have any length.
    """
    query: LiteralString = f"""
        SELECT {SHOWN}, args::text AS args, result::text AS result FROM ({LIVE} FROM run r
            WHERE r.id = %(task)s AND NOT r.scheduled
            UNION ALL {CLOSED} WHERE h.run_id = %(task)s AND h.closing
                AND h.finished_at > uuid7_time(%(task)s) - interval '1 day') t
        """
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(query, {"task": task}).fetchone()


def cancel(pool: Pool, run: UUID, *, firings: bool = False, by: str | None = None) -> bool:
    """Cancel a run that is not over; False if there is none.

    A task that waits is ended here, by the row's lock either before a claim or not at all. What
    runs is marked: its worker reads that within a look, and if it comes back to wait, it is
    dropped. A firing that waits is marked as well, and gives way to the next one.

    Args:
        pool: any.
        run: a task's id, or any run's.
        firings: whether a run that a schedule has made may be cancelled, too.
        by: who wants it, for the record; the second who wants the same changes nothing.
    """
    query = """
        WITH found AS MATERIALIZED (
            SELECT * FROM run WHERE id = %(run)s AND (NOT scheduled OR %(firings)s) FOR UPDATE
        ), told AS (
            UPDATE run r SET start_by = '-infinity' FROM found f
            WHERE r.id = f.id AND (f.token IS NOT NULL OR f.scheduled)
        ), dropped AS (
            DELETE FROM run r USING found f WHERE r.id = f.id AND f.token IS NULL
                AND NOT f.scheduled
        ), recorded AS (
            INSERT INTO history (run_id, job, attempt, due_at, finished_at, outcome, error,
                closing, name, args, priority, max_retries, failures)
            SELECT id, job, attempt, due_at, now(), 'cancelled', 'cancelled', true, name, args,
                priority, max_retries, failures
            FROM found WHERE token IS NULL AND NOT scheduled
        )
        SELECT job, start_by IS NOT DISTINCT FROM '-infinity' AS again FROM found
        """
    with pool.connection() as connection, connection.transaction():
        row = connection.execute(query, {"run": run, "firings": firings}).fetchone()
        if row and not row[1]:
            actions.record(connection, by, "cancel", f"run:{run}", job=row[0])
    return row is not None


def retry(pool: Pool, task: UUID, by: str | None = None) -> bool:
    """Put a task back that ended in an error, with its attempts counted on; False if it is none.

    Two at once: the second waits for the first, and finds that the row is the last no more.

    Args:
        pool: any.
        task: its id.
        by: who wants it, for the record.
    """
    query = """
        WITH reopened AS (
            UPDATE history SET closing = false
            WHERE run_id = %(task)s AND closing AND outcome <> 'completed'
                AND finished_at > uuid7_time(%(task)s) - interval '1 day'
            RETURNING *
        )
        INSERT INTO run (id, job, scheduled, name, args, priority, max_retries, due_at, not_before,
            attempt)
        SELECT run_id, job, false, name, args, priority, max_retries, now(), now(), attempt
        FROM reopened RETURNING job
        """
    with pool.connection() as connection, connection.transaction():
        row = connection.execute(query, {"task": task}).fetchone()
        if row:
            actions.record(connection, by, "retry", f"run:{task}", job=row[0])
    return row is not None


def attempts(pool: Pool, task: UUID) -> list[Row]:
    """Return the finished attempts of a task, oldest first; without tracebacks."""
    query = """
        SELECT attempt, worker, started_at, finished_at, outcome, error,
            extract(epoch FROM finished_at - started_at)::float8 AS duration_seconds
        FROM history
        WHERE run_id = %(task)s AND finished_at > uuid7_time(%(task)s) - interval '1 day'
        ORDER BY attempt, finished_at
        """
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(query, {"task": task}).fetchall()


def kinds(pool: Pool, name: str | None = None) -> list[Row]:
    """Return the kinds of tasks that any worker has declared, or the one of that name.

    Each with its arguments' schema.
    """
    query = """
        SELECT name, function, description, settings - 'args' AS settings, max_running, paused,
            settings -> 'args' AS args
        FROM job WHERE schedule IS NULL AND (name = %(name)s OR %(name)s::text IS NULL)
        ORDER BY name
        """
    with pool.connection() as connection:
        return connection.cursor(row_factory=dict_row).execute(query, {"name": name}).fetchall()
