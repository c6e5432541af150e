"""Search: tasks by status, kind and name, a page at a time, however many there are.

Each part of a statement walks one index from a key on and stops at the end of the page: over what
waits, what is under way, and what is over by its outcome. Nothing is counted, nothing skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from psycopg.rows import dict_row

from cluster.database import Pool
from cluster.store import tasks
from cluster.store.views import Row

_LAST = "\U0010ffff"
"""No name holds it: it is no character."""
_NEWEST = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks; None is any.

    Attributes:
        status: one of `tasks.STATUS_NAMES`.
        kind: its name.
        name: a task's, or with `*` at its end the beginning of one.
    """

    status: int | None = None
    kind: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The key of a task in a list: its id, and where names are searched its name before that."""

    task: UUID
    name: str = ""


def page(
    pool: Pool,
    limit: int,
    wanted: Wanted,
    beyond: Place | None = None,
    *,
    newer: bool = False,
) -> Sequence[Row]:
    """Return tasks without arguments and results, newest first, each once whatever happens.

    A task's id grows with time, and neither it nor the name changes, so a page can't be moved by
    what happens between two pages. Where a name is searched the order is by name, the last one
    first, and by id in that.

    Args:
        pool: any.
        limit: rows at most.
        wanted: which tasks.
        beyond: go on after this one.
        newer: whether to go on to what comes before that one in the list, and not after it.
    """
    statuses = tasks.STATUS_NAMES if wanted.status is None else (wanted.status,)
    order: LiteralString = "" if newer else " DESC"
    keys: LiteralString = f"task_id{order}"
    if wanted.name is not None:
        keys = f'name COLLATE "C"{order}, {keys}'
    parts = [_part(status, wanted, newer=newer) for status in statuses]
    query = f"""
        SELECT {tasks.SHOWN} FROM ({" UNION ALL ".join(parts)}) t ORDER BY {keys} LIMIT %(limit)s
        """
    low, high = _names(wanted.name or "")
    place = beyond or Place(_NEWEST, _LAST)
    parameters = {"limit": limit, "kind": wanted.kind, "low": low, "high": high}
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        there = {**parameters, "task": place.task, "name": place.name}
        # Planned for what is asked: a plan for any kind, any name, may be a bad one for this.
        plain = wanted.name is None and wanted.kind is None
        cursor.execute(query, there, prepare=None if plain else False)
        rows = cursor.fetchall()
    return rows[::-1] if newer else rows


def _part(status: int, wanted: Wanted, *, newer: bool) -> LiteralString:
    """Return the statement for the tasks of one status."""
    select, those, key = _PARTS[status]
    way, order = (">", "") if newer else ("<", " DESC")
    if wanted.name is not None:
        return _by_name(wanted, select, those, key, newer=newer)
    if wanted.kind is None or status != tasks.NEW:
        only: LiteralString = "" if wanted.kind is None else " AND job = %(kind)s"
        return f"""({select} WHERE {those}{only} AND {key} {way} %(task)s
            ORDER BY {key}{order} LIMIT %(limit)s)"""
    # The kind is no constant here but a part of the order, so that only the index by kind and id
    # will do: the planner would rather walk all that waits, as if the kinds were well mixed.
    edge: LiteralString = "<=" if newer else ">="
    return f"""({select} WHERE {those} AND job {edge} %(kind)s
            AND (job, {key}) {way} (%(kind)s, %(task)s)
        ORDER BY job{order}, {key}{order} LIMIT %(limit)s)"""


def _by_name(
    wanted: Wanted, select: LiteralString, those: LiteralString, key: LiteralString, *, newer: bool
) -> LiteralString:
    """Return the statement where names are searched: a walk for each kind, merged.

    The index has the kind before the name, so that both can be asked for. Kinds are few, and each
    has its row in `job`.
    """
    way, order = (">", "") if newer else ("<", " DESC")
    only: LiteralString = "" if wanted.kind is None else " AND j.name = %(kind)s"
    return f"""(SELECT p.* FROM job j CROSS JOIN LATERAL ({select} WHERE {those} AND job = j.name
            AND name COLLATE "C" >= %(low)s AND name COLLATE "C" <= %(high)s
            AND (name COLLATE "C", {key}) {way} (%(name)s COLLATE "C", %(task)s)
            ORDER BY name COLLATE "C"{order}, {key}{order} LIMIT %(limit)s) p
        WHERE j.schedule IS NULL{only}
        ORDER BY p.name COLLATE "C"{order}, p.task_id{order} LIMIT %(limit)s)"""


_WAITING: LiteralString = f"{tasks.LIVE} FROM run r"
# What is under way is little, and is looked up as such, however much waits beside it.
_RUNNING: LiteralString = f"""{tasks.LIVE}
    FROM (SELECT * FROM run WHERE token IS NOT NULL AND NOT scheduled OFFSET 0) r"""
_PARTS: dict[int, tuple[LiteralString, LiteralString, LiteralString]] = {
    tasks.NEW: (_WAITING, "NOT r.scheduled AND r.token IS NULL", "r.id"),
    tasks.PROCESSING: (_RUNNING, "true", "r.id"),
    tasks.COMPLETED: (tasks.CLOSED, "h.closing AND h.outcome = 'completed'", "h.run_id"),
    tasks.ERROR: (tasks.CLOSED, "h.closing AND h.outcome <> 'completed'", "h.run_id"),
}


def _names(pattern: str) -> tuple[str, str]:
    """Return the first and the last name that a pattern stands for."""
    return (pattern[:-1], pattern[:-1] + _LAST) if pattern.endswith("*") else (pattern, pattern)
