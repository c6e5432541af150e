"""Runs: ended, whether they were under way or not, and claimed together with that."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import orjson
from psycopg import Connection, Cursor
from psycopg.rows import dict_row

from cluster.database import Pool
from cluster.ending import Ending, unstarted
from cluster.run import Claim
from cluster.store import looks
from cluster.store.looks import Ask, Look


@dataclass(frozen=True, slots=True)
class Held:
    """An attempt under way, wherever it is performed.

    Attributes:
        claim: as it was claimed.
        worker: the identity that holds it.
        cancelled: whether it shall stop.
    """

    claim: Claim
    worker: UUID
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of an `Ending`.

    Attributes:
        fenced: the attempt was not this worker's any more; nothing was changed.
        schedule: the job's as it is now; None if fenced, and of a task.
    """

    fenced: bool
    schedule: str | None


_HELD = Ended(fenced=False, schedule=None)


def turn(pool: Pool, endings: Sequence[Ending], ask: Ask) -> tuple[list[Ended], Look]:
    """Finish what has come back and claim what is due: one round trip and one commit for both.

    Dies before the answer is there: what was claimed is held by a worker that knows nothing of
    it, and its next beat or its death frees it; what was finished is found finished when it is
    written again. See `finish` and `looks.claim`.
    """
    with pool.connection() as connection:
        # Either is one transaction; a pipeline is one round trip as well.
        with connection.transaction() if ask.limited else connection.pipeline():
            written = _finish(connection, endings) if endings else None
            looked = looks.send(connection, ask)
        ended = _ended(connection, endings, written.fetchall() if written else [])
        return ended, looks.read(looked)


def drop(pool: Pool) -> int:
    """End waiting runs that were cancelled, or are past their deadline; return how many.

    At most a thousand tasks and as many firings at once. A claim at the same moment: either it
    is first, and we find nothing or skip it, or it finds the row gone.
    """
    with pool.connection() as connection:
        return connection.execute(_DROP_TASKS).rowcount + _drop_firings(connection)


_DROP_TASKS = """
    WITH unwanted AS MATERIALIZED (
        SELECT * FROM run WHERE token IS NULL AND start_by <= now() AND NOT scheduled
        ORDER BY start_by LIMIT 1000 FOR UPDATE SKIP LOCKED
    ), dropped AS (
        DELETE FROM run r USING unwanted u WHERE r.id = u.id
    )
    INSERT INTO history (run_id, job, attempt, due_at, finished_at, outcome, error, closing,
        name, args, priority, max_retries, failures)
    SELECT id, job, attempt, due_at, now(),
        CASE WHEN start_by = '-infinity' THEN 'cancelled' ELSE 'missed' END,
        CASE WHEN start_by = '-infinity' THEN 'cancelled'
            ELSE 'not started by its deadline' END,
        true, name, args, priority, max_retries, failures
    FROM unwanted
    """


def _drop_firings(connection: Connection[Any]) -> int:
    """End firings that are not wanted any more, each by giving way to the next one."""
    with connection.transaction():
        cursor = connection.cursor(row_factory=dict_row)
        # The jobs first, as everybody does, so that two can't wait for each other.
        found = cursor.execute(
            """
            SELECT name, schedule, timezone, settings ->> 'catch_up' AS catch_up FROM job
            WHERE schedule IS NOT NULL AND name IN (SELECT job FROM run
                WHERE token IS NULL AND start_by <= now() AND scheduled)
            ORDER BY name LIMIT 1000 FOR SHARE
            """
        ).fetchall()
        if not found:
            return 0
        jobs = {job["name"]: job for job in found}
        unwanted = cursor.execute(
            """
            SELECT id, job, attempt, due_at, failures, crashes, priority,
                extract(epoch FROM spread)::float8 AS spread, now() AS now,
                start_by = '-infinity' AS cancelled
            FROM run WHERE job = ANY (%s) AND token IS NULL AND start_by <= now() AND scheduled
            FOR UPDATE SKIP LOCKED
            """,
            (list(jobs),),
        ).fetchall()
        endings = [unstarted(row, jobs[row["job"]]) for row in unwanted]
        _finish(connection, endings)
    return len(endings)


def finish(pool: Pool, endings: Sequence[Ending]) -> list[Ended]:
    """Write how attempts ended: history, and the run's next attempt, next firing, or its end.

    Guarded by the token: an attempt that was taken away changes nothing, and is recorded as
    fenced. A finish whose answer was lost may come again: it is found in the history and not
    written twice. The job is locked against `jobs.change`, so that a schedule which changes at
    this moment is either seen here or sees the run that is planned here.

    Returns:
        One answer for each ending, in their order.
    """
    with pool.connection() as connection:
        return _ended(connection, endings, _finish(connection, endings).fetchall())


def finish_in(connection: Connection[Any], ending: Ending) -> None:
    """Write how an attempt ended in a transaction of the caller, who holds the row of the run.

    That may have begun minutes ago; the end is dated to this moment.
    """
    _finish(connection, [ending], within=True)


def held(pool: Pool, run: UUID, token: UUID) -> Held | None:
    """Return the task under way that has this token, or None."""
    query = """
        SELECT id, job, NULL AS schedule, 'UTC' AS timezone, due_at, attempt, token, fence,
            started_at, failures, crashes, worker, name, args::text AS args, max_retries,
            checkpoint::text AS checkpoint, worker_id,
            start_by IS NOT DISTINCT FROM '-infinity' AS cancelled
        FROM run WHERE id = %s AND token = %s AND NOT scheduled
        """
    with pool.connection() as connection:
        row = connection.cursor(row_factory=dict_row).execute(query, (run, token)).fetchone()
    return Held(looks.claim_of(row), row["worker_id"], row["cancelled"]) if row else None


def said_before(pool: Pool, run: UUID, token: UUID, outcome: str) -> bool:
    """Whether this attempt has ended so before; if it was lost, record the late word as fenced.

    Said several times at once: the second waits for the first at the row of the lost attempt,
    and its next statement sees what the first has written.
    """
    parameters = {"run": run, "token": token, "outcome": outcome}
    with pool.connection() as connection, connection.transaction():
        connection.execute(
            """
            SELECT FROM history WHERE run_id = %(run)s AND token = %(token)s
                AND finished_at > uuid7_time(%(run)s) - interval '1 day' AND outcome = 'crashed'
            FOR UPDATE
            """,
            parameters,
        )
        row = connection.execute(_LATE, parameters).fetchone()
    return bool(row and row[0])


_LATE = """
    WITH ended AS MATERIALIZED (
        SELECT * FROM history WHERE run_id = %(run)s AND token = %(token)s
            AND finished_at > uuid7_time(%(run)s) - interval '1 day'
    ), late AS (
        INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
            finished_at, outcome, error)
        SELECT run_id, job, attempt, token, fence, worker, due_at, started_at, now(), 'fenced',
            'a late result was refused: ' || %(outcome)s::text
        FROM ended WHERE outcome = 'crashed'
            AND NOT EXISTS (SELECT FROM ended WHERE outcome = 'fenced')
    )
    -- What was reported of a cancelled task is written as cancelled; and of a crash nobody can
    -- say whether it was reported or found, so the second word counts as late.
    SELECT EXISTS (SELECT FROM ended WHERE outcome = %(outcome)s AND outcome <> 'crashed'
        OR outcome = 'cancelled' AND %(outcome)s <> 'completed')
    """


def _finish(
    connection: Connection[Any], endings: Sequence[Ending], *, within: bool = False
) -> Cursor[tuple[UUID, str | None]]:
    """Write endings; the cursor brings the tokens of those that were held, with schedules.

    Args:
        connection: ours, or of who calls `finish_in`.
        endings: to be written.
        within: the transaction is the caller's, and may be old.
    """
    if endings and all(e.outcome == "completed" and e.next_at is None for e in endings):
        values = [each.value for each in endings]
        columns = (
            _array(each.run_id for each in endings),
            _array(each.token for each in endings if each.token),
            values if any(values) else None,  # `unnest` fills up with nulls
        )
        complete = _COMPLETE_WITHIN if within else _COMPLETE
        return connection.execute(complete, columns, prepare=looks.AT_ONCE)
    finish = _FINISH_WITHIN if within else _FINISH
    return connection.execute(finish, (_rows(endings),), prepare=looks.AT_ONCE)


def _rows(endings: Iterable[Ending]) -> str:
    """Return endings as `_ENDING` reads them."""
    return json([each._asdict() for each in endings])


def _array(ids: Iterable[UUID]) -> str:
    """Return an array as the server reads it; psycopg looks into each element for quotes."""
    return f"{{{','.join([each.hex for each in ids])}}}"


def _ended(
    connection: Connection[Any],
    endings: Sequence[Ending],
    written: list[tuple[UUID, str | None]],
) -> list[Ended]:
    """Say what became of each ending, and record those that came too late."""
    if len(written) == len(endings) and not any(each.schedule for each in endings):
        return [_HELD] * len(endings)
    schedules = dict(written)
    late = [each for each in endings if each.token not in schedules]
    refused: set[UUID] = set()
    if late:
        # Statements of their own, because only a new snapshot surely shows a twin of this finish
        # that the one before has waited for. A twin of this word waits at the lost attempt's row.
        with connection.transaction():
            connection.execute(_LOST, (_rows(late),))
            connection.execute(_REFUSED, (_rows(late),))
            refused = {row[0] for row in connection.execute(_FENCED, (_rows(late),)).fetchall()}
    return [
        Ended(each.token in refused, schedules.get(each.token) if each.token else None)
        for each in endings
    ]


_COMPLETE: LiteralString = """
    WITH ending AS MATERIALIZED (
        SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[]) AS e (run_id, token, value)
        ORDER BY run_id -- the order in which whoever takes over locks them
    ), over AS (
        DELETE FROM run r USING ending e
        WHERE r.id = e.run_id AND r.token = e.token
        RETURNING r.*, e.value
    ), recorded AS (
        INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
            finished_at, outcome, result, closing, name, args, priority, max_retries, failures)
        SELECT id, job, attempt, token, fence, worker, due_at, started_at, now(), 'completed',
            value::jsonb, NOT scheduled, name, args, priority, max_retries, failures
        FROM over -- a firing if the job is a kind of tasks by now
    )
    SELECT token, NULL FROM over
    """
"""What `_FINISH` does with tasks that were completed, at half of the cost: all but the result
stands in the row."""

_ENDING: LiteralString = """
    SELECT * FROM jsonb_to_recordset(%s) AS e (run_id uuid, job text, attempt integer, token uuid,
        fence bigint, worker text, due_at timestamptz, started_at timestamptz, outcome text,
        error text, traceback text, value text, failures integer, crashes integer,
        retry_in float8, next_at timestamptz, lost jsonb, priority smallint, spread float8)
    """

_FINISH: LiteralString = f"""
    WITH ending AS MATERIALIZED ({_ENDING}), planned AS MATERIALIZED (
        -- In the order of `jobs.declare`, so that the two can't wait for each other.
        SELECT name, schedule, start_within FROM job
        WHERE name IN (SELECT job FROM ending WHERE next_at IS NOT NULL)
        ORDER BY name FOR SHARE
    ), held AS MATERIALIZED (
        SELECT e.*, p.schedule AS now_schedule, p.start_within, r.scheduled,
            r.begun_at, r.name, r.args, r.max_retries, r.priority AS own_priority
        FROM ending e LEFT JOIN planned p ON p.name = e.job
            JOIN run r ON r.id = e.run_id AND r.token IS NOT DISTINCT FROM e.token
        ORDER BY r.id FOR UPDATE OF r
    ), again AS (
        UPDATE run r SET token = NULL, fence = NULL, worker_id = NULL, worker = NULL,
            started_at = NULL, progress = NULL, failures = h.failures, crashes = h.crashes,
            error = h.error, not_before = now() + make_interval(secs => h.retry_in),
            start_by = CASE WHEN r.start_by = '-infinity' THEN r.start_by END -- it has started
        FROM held h WHERE r.id = h.run_id AND h.retry_in IS NOT NULL
    ), next AS (
        UPDATE run r SET id = uuid7(), token = NULL, fence = NULL, worker_id = NULL,
            worker = NULL, started_at = NULL, progress = NULL, attempt = 0, failures = 0,
            crashes = 0, error = NULL, checkpoint = NULL, begun_at = NULL, due_at = h.next_at,
            not_before = greatest(h.next_at, now()), start_by = h.next_at + h.start_within,
            priority = h.priority,
            spread = make_interval(secs => h.spread)
        FROM held h WHERE r.id = h.run_id AND h.retry_in IS NULL AND h.next_at IS NOT NULL
    ), over AS (
        DELETE FROM run r USING held h
        WHERE r.id = h.run_id AND h.retry_in IS NULL AND h.next_at IS NULL
    ), recorded AS (
        INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
            finished_at, outcome, error, traceback, result, closing, name, args, priority,
            max_retries, failures)
        SELECT run_id, job, attempt, token, fence, worker, due_at, started_at, now(), outcome,
            error, traceback, value::jsonb, last, CASE WHEN last THEN name END,
            CASE WHEN last THEN args END, CASE WHEN last THEN own_priority END,
            CASE WHEN last THEN max_retries END, CASE WHEN last THEN failures END
        FROM (SELECT *, retry_in IS NULL AND NOT scheduled AS last FROM held) h
    ), lost AS (
        -- A firing without a run, with an id of its own. Until the run had begun there was nobody
        -- to start it, or it would have begun; from then on the run was in the way.
        INSERT INTO history (run_id, job, attempt, due_at, due_until, finished_at, outcome, error)
        SELECT uuid7(f.at), h.job, 0, f.at, f.until, now(),
            CASE WHEN f.at >= h.begun_at THEN 'skipped' ELSE 'missed' END,
            CASE WHEN f.at >= h.begun_at THEN 'the run before was under way'
                ELSE 'nothing had started the run before' END
        FROM held h
        CROSS JOIN LATERAL jsonb_to_recordset(h.lost) AS f (at timestamptz, until timestamptz)
        WHERE h.lost <> '[]'
    )
    SELECT token, now_schedule FROM held
    """

_COMPLETE_WITHIN, _FINISH_WITHIN = (
    each.replace("now()", "statement_timestamp()") for each in (_COMPLETE, _FINISH)
)
"""The same in a transaction that may be old. Not in ours: what a turn makes due again it claims in
the same transaction, whose `now()` is older than the statement."""

_LOST: LiteralString = f"""
    WITH ending AS MATERIALIZED ({_ENDING})
    SELECT FROM ending e JOIN history h ON h.run_id = e.run_id AND h.attempt = e.attempt
        AND h.token = e.token AND h.finished_at > uuid7_time(e.run_id) - interval '1 day'
    ORDER BY h.run_id, h.token FOR UPDATE OF h
    """

_REFUSED: LiteralString = f"""
    WITH ending AS MATERIALIZED ({_ENDING})
    INSERT INTO history (run_id, job, attempt, token, fence, worker, due_at, started_at,
        finished_at, outcome, error)
    SELECT run_id, job, attempt, token, fence, worker, due_at, started_at, now(), 'fenced',
        'a late result was refused: ' || outcome
    FROM ending e
    WHERE NOT EXISTS (SELECT FROM history h
        WHERE h.run_id = e.run_id AND h.attempt = e.attempt AND h.token = e.token
            AND h.outcome IN (e.outcome, 'fenced')
            AND h.finished_at > uuid7_time(e.run_id) - interval '1 day')
    """

_FENCED: LiteralString = f"""
    WITH ending AS MATERIALIZED ({_ENDING})
    SELECT e.token FROM ending e
    WHERE NOT EXISTS (SELECT FROM history h
        WHERE h.run_id = e.run_id AND h.attempt = e.attempt AND h.token = e.token
            AND h.outcome = e.outcome AND h.finished_at > uuid7_time(e.run_id) - interval '1 day')
    """
"""Of endings that came late, those that were not written before, by a finish whose answer was
lost."""


def json(value: Any) -> str:
    """Return rows as the text of a jsonb parameter; a text in them must not hold NUL."""
    return orjson.dumps(value).decode()
