"""Search: tasks by status, kind and name, a page at a time, however many there are.

Each part of a statement walks one index from a key on and stops at the end of the page: over what
waits, what is under way, and what is over by its outcome. Nothing is counted, nothing skipped.
What is over lies in a table for each day, and most pages need the newest of them alone.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import LiteralString, NamedTuple
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
    low, high = _names(wanted.name or "")
    place = beyond or Place(_NEWEST, _LAST)
    query = _query(wanted, limit, newer=newer)
    parameters = {
        "kind": wanted.kind,
        "low": low,
        "high": high,
        "task": place.task,
        "name": place.name,
    }
    # Planned for what is asked: a plan for any name may be a bad one for this.
    prepare = None if wanted.name is None else False
    rows: list[Row] = []
    with pool.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        for reach in _reaches(wanted, place.task, newer=newer):
            there = {**parameters, "ended": reach.ended}
            rows = cursor.execute(query, there, prepare=prepare).fetchall()
            if len(rows) == limit and rows[-1]["task_id"] >= reach.made:
                break
    return rows[::-1] if newer else rows


class _Reach(NamedTuple):
    """How far back a statement looks.

    Attributes:
        ended: at tasks that are over since then; earlier days of history are left out by that.
        made: no task of this id or a later one can be missed by that.
    """

    ended: str
    made: UUID


_ALL = _Reach("-infinity", UUID(int=0))


def _reaches(wanted: Wanted, task: UUID, *, newer: bool) -> Iterator[_Reach]:
    """Yield how far to look until a page is full, the last time at all there is.

    A task is over after it was made, and its id tells when that was; a day is left for clocks.
    Where to begin is by our clock: if that is wrong, it makes a second statement, no other page.
    """
    moment = min(task.int >> 80, time.time_ns() // 1_000_000)  # milliseconds, see RFC 9562
    if wanted.name is None and wanted.status not in _OPEN and moment > 2 * _DAY:
        if newer:
            yield _Reach(_moment(moment - _DAY), UUID(int=0))
            return
        yield _Reach(_moment(moment - 2 * _DAY), UUID(int=moment - _DAY << 80))
    yield _ALL


_OPEN = {tasks.NEW, tasks.PROCESSING}
_DAY = 24 * 60 * 60 * 1000


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def _query(wanted: Wanted, limit: int, *, newer: bool) -> LiteralString:
    """Return the statement for a page.

    The limit is written into it: the planner thinks of a parameter as a tenth of all there is.
    """
    statuses = tasks.STATUS_NAMES if wanted.status is None else (wanted.status,)
    order: LiteralString = "" if newer else " DESC"
    rows: LiteralString = str(int(limit))
    keys: LiteralString = f"task_id{order}"
    if wanted.name is not None:
        keys = f'name COLLATE "C"{order}, {keys}'
    parts = [_part(status, wanted, rows, newer=newer) for status in statuses]
    return f"SELECT {tasks.SHOWN} FROM ({' UNION ALL '.join(parts)}) t ORDER BY {keys} LIMIT {rows}"


def _part(status: int, wanted: Wanted, rows: LiteralString, *, newer: bool) -> LiteralString:
    """Return the statement for the tasks of one status."""
    select, those, key = _PARTS[status]
    way, order = (">", "") if newer else ("<", " DESC")
    if wanted.name is not None:
        return _by_name(wanted, select, those, key, rows, newer=newer)
    ordered: LiteralString = f"{key}{order}"
    only: LiteralString = ""
    if wanted.kind is not None:
        # One of a list of one, so that the order is by kind as well, and only the index by kind
        # and id will do: the planner would rather walk all there is, as if kinds were well mixed.
        only = " AND job = ANY (ARRAY[%(kind)s::text])"
        ordered = f"job{order}, {ordered}"
    return f"""({select} WHERE {those}{only} AND {key} {way} %(task)s
        ORDER BY {ordered} LIMIT {rows})"""


def _by_name(
    wanted: Wanted,
    select: LiteralString,
    those: LiteralString,
    key: LiteralString,
    rows: LiteralString,
    *,
    newer: bool,
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
            ORDER BY name COLLATE "C"{order}, {key}{order} LIMIT {rows}) p
        WHERE j.schedule IS NULL{only}
        ORDER BY p.name COLLATE "C"{order}, p.task_id{order} LIMIT {rows})"""


_WAITING: LiteralString = f"{tasks.LIVE} FROM run r"
# What is under way is little, and is looked up as such, however much waits beside it.
_RUNNING: LiteralString = f"""{tasks.LIVE}
    FROM (SELECT * FROM run WHERE token IS NOT NULL AND NOT scheduled OFFSET 0) r"""
# As text, for a day that the planner knows would make it plan anew for each page; that takes ten
# times as long as the walk. So it finds out which days are left out when it begins to walk.
_OVER: LiteralString = "h.closing AND h.finished_at >= %(ended)s::text::timestamptz"
_PARTS: dict[int, tuple[LiteralString, LiteralString, LiteralString]] = {
    tasks.NEW: (_WAITING, "NOT r.scheduled AND r.token IS NULL", "r.id"),
    tasks.PROCESSING: (_RUNNING, "true", "r.id"),
    tasks.COMPLETED: (tasks.CLOSED, f"{_OVER} AND h.outcome = 'completed'", "h.run_id"),
    tasks.ERROR: (tasks.CLOSED, f"{_OVER} AND h.outcome <> 'completed'", "h.run_id"),
}


def _names(pattern: str) -> tuple[str, str]:
    """Return the first and the last name that a pattern stands for."""
    return (pattern[:-1], pattern[:-1] + _LAST) if pattern.endswith("*") else (pattern, pattern)
