"""Questions: where is it now? Asked anywhere, answered by the worker that performs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row

from cluster.database import Pool

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """Somebody wants to know where an attempt is."""

    token: UUID
    asked_at: datetime


def ask(pool: Pool, run: UUID) -> bool | None:
    """Ask where a run is; None if nobody performs it, False if a remote worker does.

    The last answer about this attempt goes. Others of an hour ago go, too, as nobody comes back
    for them. Two at once: the second asks anew.
    """
    query = """
        WITH old AS (
            DELETE FROM question WHERE token IN (
                SELECT token FROM question
                WHERE asked_at < now() - interval '1 hour' AND run_id <> %(run)s
                FOR UPDATE SKIP LOCKED)
        ), held AS (
            SELECT r.*, coalesce(w.remote, false) AS remote
            FROM run r LEFT JOIN worker w ON w.id = r.worker_id
            WHERE r.id = %(run)s AND r.token IS NOT NULL
        ), asked AS (
            INSERT INTO question (token, run_id, attempt, worker)
            SELECT token, id, attempt, worker FROM held WHERE NOT remote
            ON CONFLICT (token) DO UPDATE SET asked_at = now(), stack = NULL, answered_at = NULL
        )
        SELECT NOT remote FROM held
        """
    with pool.connection() as connection:
        row = connection.execute(query, {"run": run}).fetchone()
    return row[0] if row else None


def last(pool: Pool, run: UUID) -> Row | None:
    """Return the last question about a run, and its answer if there is one."""
    query = """
        SELECT attempt, worker, asked_at, answered_at, stack FROM question
        WHERE run_id = %s ORDER BY asked_at DESC LIMIT 1
        """
    with pool.connection() as connection:
        return connection.cursor(row_factory=dict_row).execute(query, (run,)).fetchone()


def unanswered(pool: Pool, tokens: Sequence[UUID]) -> list[Question]:
    """Return what is asked of these attempts."""
    query = """
        SELECT token, asked_at FROM question WHERE token = ANY (%s) AND answered_at IS NULL
        """
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=class_row(Question))
        return cursor.execute(query, (list(tokens),)).fetchall()


def answer(pool: Pool, answers: Sequence[tuple[Question, str]]) -> None:
    """Write where attempts are. Asked anew meanwhile: the new question stays open."""
    query = """
        UPDATE question q SET stack = a.stack, answered_at = now()
        FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[]) AS a (token, asked_at, stack)
        WHERE q.token = a.token AND q.asked_at = a.asked_at
        """
    columns = (
        [question.token for question, _ in answers],
        [question.asked_at for question, _ in answers],
        [stack for _, stack in answers],
    )
    with pool.connection() as connection:
        connection.execute(query, columns)
