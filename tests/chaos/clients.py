"""What clients were told, compared with what the database says."""

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, LiteralString

from tests.chaos.case import Case, Check
from tests.chaos.diary import DROPPED, DROPPED_SECONDS, SLOW, Excuse
from tests.chaos.loads import ACCOUNT, Answer
from tests.system.facts import rows

HANG_SECONDS = 10.0
CLOCK_SECONDS = 0.1
"""By which our idea of the database's time may be behind."""


def samples(case: Case) -> Iterable[Any]:
    """No sample shows a negative balance or a forgotten transaction."""
    return set(case.samples)


def starts(case: Case) -> Iterable[Any]:
    """No instance gives up at its start, whatever it meets there."""
    return case.diary.gave_up


def changes(case: Case) -> Iterable[Any]:
    """Acknowledged changes are posted once, refused ones never, unknown ones once at most."""
    posted = Counter(
        amount
        for (amount,) in rows(
            case.url, "SELECT amount FROM ledger WHERE user_id = %(user)s", user=ACCOUNT
        )
    )
    for wish in case.changes:
        possible = {0, 1}
        if wish.told(200):
            possible = {1}
        elif wish.told(409):
            possible = {0}
        if posted.pop(wish.amount, 0) not in possible or (wish.told(200) and wish.told(409)):
            yield wish
    for amount in posted:
        yield f"nobody asked for the posting of {amount}"


def refusals(case: Case) -> Iterable[Any]:
    """A change is refused only when the balance is too small for it."""
    for wish in case.changes:
        for answer in wish.told(409):
            if answer.body.get("balance", 0) + wish.amount >= 0:
                yield answer


def tasks(case: Case) -> Iterable[Any]:
    """Each acknowledged task is one task with one end; an unknown one is one at most."""
    ends = Counter(name for (name,) in rows(case.url, "SELECT name FROM history WHERE closing"))
    live = rows(case.url, "SELECT name FROM run WHERE NOT scheduled")
    waiting = Counter(name for (name,) in live)
    for wish in case.tasks:
        told = {answer.body["task_id"] for answer in wish.told(201)}
        if told and (ends[wish.key], waiting[wish.key]) != (1, 0):
            yield f"{ends[wish.key]} ends and {waiting[wish.key]} still to end: {wish}"
        if ends[wish.key] + waiting[wish.key] > 1 or len(told) > 1:
            yield f"{ends[wish.key]} ends for one wish, told {told}: {wish}"
    asked = {wish.key for wish in case.tasks}
    for name in (ends + waiting).keys() - asked:
        yield f"nobody asked for the task {name}"


def cancels(case: Case) -> Iterable[Any]:
    """Nothing is written for a task after its cancelling was acknowledged."""
    for wish in case.tasks:
        for answer in (a for a in wish.told(200, 202) if a.what.startswith("DELETE")):
            told_at = answer.begun_at + timedelta(seconds=answer.seconds + CLOCK_SECONDS)
            task = answer.body["task_id"]
            late = "SELECT * FROM counted WHERE run_id = %(task)s AND at > %(told_at)s"
            yield from rows(case.url, late, task=task, told_at=told_at)
            if answer.status == 200 and rows(case.url, _BEGUN, task=task, told_at=told_at):
                yield f"it began after all: {wish}"


_BEGUN: LiteralString = """
    SELECT 1 FROM history WHERE run_id = %(task)s AND started_at > %(told_at)s
    """


def counter(case: Case) -> Iterable[Any]:
    """The guarded counter has moved once for each run that completed, and for no other."""
    yield from rows(
        case.url,
        """
        SELECT value, count(c.run_id) AS moves FROM counter LEFT JOIN counted c ON true
        GROUP BY value HAVING value <> count(c.run_id)
        """,
    )
    yield from rows(case.url, "SELECT run_id FROM counted GROUP BY 1 HAVING count(*) > 1")
    yield from rows(
        case.url,
        """
        SELECT c.run_id, c.token AS moved_by, h.run_id, h.token AS completed_by
        FROM counted c FULL JOIN (
            SELECT * FROM history
            WHERE outcome = 'completed' AND (job = 'count' OR job LIKE 'equal-%%')
        ) h ON h.run_id = c.run_id AND h.token = c.token
        WHERE c.token IS NULL OR h.token IS NULL
        """,
    )


def fenced(case: Case) -> Iterable[Any]:
    """No guarded write carries a token that had been taken away before."""
    return rows(
        case.url,
        # A take-over that waits for the lock of a guarded write is older than that write.
        """
        SELECT c.*, h.outcome, h.finished_at FROM counted c JOIN history h USING (token)
        WHERE h.outcome <> 'fenced' AND c.at > h.finished_at + interval '3 s'
        """,
    )


def answers(case: Case) -> Iterable[Any]:
    """Every answer is 2xx, 4xx or 503 with JSON."""
    for answer in case.answers:
        fits = 200 <= answer.status < 300 or 400 <= answer.status < 500 or answer.status == 503
        if answer.status and not (fits and "json" in answer.media):
            yield answer


def hangs(case: Case) -> Iterable[Any]:
    """Nobody waits longer than ten seconds for an answer."""
    for answer in case.answers:
        if answer.seconds > HANG_SECONDS and not _touched(case, answer, SLOW):
            yield answer


def drops(case: Case) -> Iterable[Any]:
    """Every request to an instance that lives is answered."""
    suicides = rows(case.url, "SELECT worker, at FROM suicide WHERE NOT alone")
    for worker, at in suicides:
        name = worker.partition(":")[0] + ":"
        case.diary.excuses.append(
            Excuse(name, (DROPPED,), at, at + timedelta(seconds=DROPPED_SECONDS))
        )
    for answer in case.answers:
        if not answer.status and not _touched(case, answer, DROPPED):
            yield answer


def _touched(case: Case, answer: Answer, what: str) -> bool:
    """Whether a fault explains what became of a request, at any moment while it lasted."""
    moments = (answer.begun_at + timedelta(seconds=answer.seconds * n / 10) for n in range(11))
    return any(case.diary.excused(f"{answer.instance}:", what, at) for at in moments)


CHECKS: tuple[Check, ...] = (
    starts,
    samples,
    changes,
    refusals,
    tasks,
    cancels,
    counter,
    fenced,
    answers,
    hangs,
    drops,
)
