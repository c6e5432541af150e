"""What became of attempts, compared with what was broken."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from statistics import median
from typing import Any, LiteralString
from uuid import UUID

from tests.chaos.case import Case, Check
from tests.chaos.diary import CRASHED, INTERRUPTED, KILLED_SECONDS, LATE, Diary, Loss
from tests.system.facts import rows, unsound

GRACE_SECONDS = 5.0
"""What a machine with two busy cores may add before we call it a violation."""


def sound(case: Case) -> Iterable[Any]:
    """The history keeps the engine's invariants."""
    return unsound(case.url).items()


def deaths(case: Case) -> Iterable[Any]:
    """Nobody is declared dead whom no fault has touched."""
    return _unexcused(case, CRASHED)


def interruptions(case: Case) -> Iterable[Any]:
    """No run is interrupted whose worker was neither told to leave nor cut off."""
    return _unexcused(case, INTERRUPTED)


def _unexcused(case: Case, outcome: str) -> Iterable[Any]:
    query = """
        SELECT worker, job, run_id, attempt, started_at, finished_at, error FROM history
        WHERE outcome = %(outcome)s
        """
    for row in rows(case.url, query, outcome=outcome):
        worker, run, ended_at = row[0], row[2], row[5]
        known = case.diary.excused(worker, outcome, ended_at)
        if not known and not _by_suicide(case, worker, run, ended_at):
            yield tuple(str(part) for part in row)


def _by_suicide(case: Case, worker: str, run: UUID, at: datetime) -> bool:
    query = """
        SELECT 1 FROM suicide WHERE worker = %(worker)s AND at <= %(at)s
            AND (NOT alone OR run_id = %(run)s)
        """
    return bool(rows(case.url, query, worker=worker, run=run, at=at))


def takeovers(case: Case) -> Iterable[Any]:
    """What a killed or frozen worker held is taken over in time."""
    suicides = rows(case.url, "SELECT worker, min(at) FROM suicide WHERE NOT alone GROUP BY 1")
    losses = [*case.diary.losses, *(Loss(name, at, KILLED_SECONDS) for name, at in suicides)]
    waits: dict[float, list[float]] = {}
    for loss in losses:
        for ended_at, *what in rows(case.url, _HELD, worker=loss.worker, at=loss.at):
            seconds = (ended_at - loss.at).total_seconds()
            waits.setdefault(loss.within, []).append(seconds)
            allowed = loss.within + GRACE_SECONDS + _disturbed(case.diary, loss.at, ended_at)
            if seconds > allowed:
                yield loss.worker, str(loss.at), f"{seconds:.1f} s > {allowed:.1f} s", what
    for promised, found in waits.items():
        late = sum(wait > promised for wait in found)
        case.notes.append(
            f"taken over, {promised:g} s are promised: {len(found)} runs, median"
            f" {median(found):.2f} s, longest {max(found):.2f} s, {late} later than promised"
        )


_HELD: LiteralString = """
    SELECT finished_at, job, run_id::text FROM history
    WHERE worker = %(worker)s AND outcome <> 'fenced'
        AND started_at <= %(at)s AND finished_at >= %(at)s
    """
"""What a worker had under way at a moment, and when that ended in whatever way."""


def _disturbed(diary: Diary, since: datetime, until: datetime) -> float:
    """Return for how many seconds between the two nobody could take over."""
    nothing = timedelta()
    total = nothing
    for excuse in diary.excuses:
        if LATE in excuse.what:
            over = min(excuse.until or until, until) - max(excuse.since, since)
            total += max(over, nothing)
    return total.total_seconds()


def overlaps(case: Case) -> Iterable[Any]:
    """Bodies of one run are at work at once only if a fault kept the older one from hearing."""
    query = """
        WITH known AS (
            SELECT b.*, coalesce((SELECT min(h.attempt) FROM history h
                WHERE h.run_id = b.run_id AND h.token = b.token), 0) AS attempt
            FROM body b
        )
        -- The older attempt is not always the one whose body began first: frozen just after its
        -- claim, it begins when it goes on.
        SELECT a.worker, a.run_id, a.ended_at, b.worker, b.started_at FROM known a
        JOIN known b ON a.run_id = b.run_id
            AND (a.attempt, a.started_at) < (b.attempt, b.started_at)
            AND a.started_at < b.ended_at AND b.started_at < a.ended_at
        """
    found = rows(case.url, query)
    case.notes.append(f"unguarded bodies that overlapped: {len(found)}")
    for row in found:
        if not case.diary.excused(row[0], CRASHED, row[2]):
            yield tuple(str(part) for part in row)


CHECKS: tuple[Check, ...] = (
    sound,
    deaths,
    interruptions,
    takeovers,
    overlaps,
)
