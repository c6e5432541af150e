"""Actions: what people have changed, each recorded in the transaction of its change."""

from typing import Any, LiteralString
from uuid import UUID

import orjson
from psycopg import Connection
from psycopg.rows import dict_row

from cluster.database import Pool


def record(
    connection: Connection[Any], who: str | None, what: str, target: str, **detail: Any
) -> UUID | None:
    """Record an action in the caller's transaction: it is there if and only if the change is.

    Args:
        connection: in a transaction.
        who: has done it; None is nobody, such as a program of our own, and is not recorded.
        what: one word.
        target: what it was done to: `job:…`, `kind:…` or `run:…`.
        **detail: what else there is to know.

    Returns:
        Its id, if it was recorded.
    """
    if who is None:
        return None
    row = connection.execute(
        "INSERT INTO action (who, what, target, detail) VALUES (%s, %s, %s, %s) RETURNING id",
        (who, what, target, orjson.dumps(detail).decode()),
    ).fetchone()
    return row[0] if row else None


def amend(connection: Connection[Any], action: UUID, **detail: Any) -> None:
    """Write more of an action that goes on, in the transaction that has done more of it."""
    connection.execute(
        "UPDATE action SET detail = detail || %s::jsonb WHERE id = %s",
        (orjson.dumps(detail).decode(), action),
    )


def page(
    pool: Pool,
    limit: int,
    beyond: UUID | None = None,
    target: str | None = None,
    *,
    newer: bool = False,
) -> list[dict[str, Any]]:
    """Return actions, newest first.

    Args:
        pool: any.
        limit: rows at most.
        beyond: go on after this one.
        target: only what was done to this.
        newer: whether to go on to what is newer than that one, and not to what is older.
    """
    only: LiteralString = "AND target = %(target)s" if target is not None else ""
    way, order = (">", "") if newer else ("<", "DESC")
    query = f"""
        SELECT id, uuid7_time(id) AS at, who, what, target, detail FROM action
        WHERE id {way} %(beyond)s {only} ORDER BY id {order} LIMIT %(limit)s
        """
    newest = UUID(int=2**128 - 1)
    parameters = {"limit": limit, "beyond": beyond or newest, "target": target}
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        rows = cursor.execute(query, parameters).fetchall()
    return rows[::-1] if newer else rows
