"""Reasons: why a run waits, in words, from what the database says of it (pure)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

_NAMED = 3
"""Workers that a text names as holders of a limit; the runs of others are counted."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A run under way that another one waits for, and the worker that performs it."""

    run_id: UUID
    worker: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to know of a run that waits; times and counts of one moment.

    Attributes:
        now: the moment.
        scheduled: whether it is a firing; else a task.
        start_by: it is dropped unless it starts by then; the lowest time there is: cancelled.
        again: what ended its last attempt, and the how many-th such end that was, if that is why
            it is not due.
        paused_by: who has paused its job and when, if that is known.
        at_work: workers that are at work, whatever they know.
        workers: of these, such as know its job.
        slots: runs that those perform at once; None if one does not say.
        free: of these, not in use.
        opens_at: when the cluster opens, if it has not.
        max_running: the limit of its kind.
        held: runs of its kind under way.
        holders: some of them, where the limit is full.
        place: in the queue of its kind if that has a limit or is for remote workers only; else
            in the queue of all. None: beyond the last one that was counted.
        counted: places that were counted at most.
        pace: runs a second that start from this queue, if that is known.
        far: whether words tell how far a moment is.
    """

    now: datetime
    scheduled: bool
    not_before: datetime
    start_by: datetime | None
    cancelled: bool
    again: tuple[str, int] | None
    paused: bool
    paused_by: tuple[str, datetime] | None
    remote: bool
    at_work: int
    workers: int
    slots: int | None
    free: int
    opens_at: datetime | None
    max_running: int | None
    held: int
    holders: Sequence[Holder]
    place: int | None
    counted: int
    pace: float | None
    far: bool = True


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a run waits.

    Attributes:
        word: `cancelled`, `deadline`, `paused`, `no_worker`, `retry`, `schedule`, `opening`,
            `limit`, `run_before`, or `free_worker`.
        text: a sentence without its stop.
        gist: the same without what only the time moves: how far a moment is, or is expected.
        until: when it is expected to start, if that is known.
        place: in its queue, from 1, if it is due and was counted.
        holders: runs under way that it waits for, some of them.
    """

    word: str
    text: str
    until: datetime | None = None
    place: int | None = None
    holders: Sequence[Holder] = ()
    gist: str = ""


def reason(facts: Facts) -> Reason:
    """Return why a run waits: the first thing that would have to change for it to start."""
    still = replace(facts, pace=None, far=False)
    return replace(_first(facts), gist=_first(still).text)


def _first(facts: Facts) -> Reason:
    return _not_wanted(facts) or _nobody(facts) or _later(facts) or _queued(facts)


def _not_wanted(facts: Facts) -> Reason | None:
    if facts.cancelled:
        return Reason("cancelled", "cancelled; it is being ended")
    if facts.start_by and facts.start_by <= facts.now:
        return Reason("deadline", "past its deadline; it is being dropped")
    if not facts.paused:
        return None
    if facts.paused_by is None:
        return Reason("paused", "paused")
    who, at = facts.paused_by
    return Reason("paused", f"paused by {who} at {clock(at)}")


def _nobody(facts: Facts) -> Reason | None:
    if facts.workers or facts.remote:
        return None
    if not facts.at_work:
        return Reason("no_worker", "no worker is at work")
    return Reason("no_worker", f"no worker knows this {'job' if facts.scheduled else 'kind'}")


def _later(facts: Facts) -> Reason | None:
    if facts.not_before > facts.now:
        at = _at(facts.not_before, facts)
        if facts.again is None:
            return Reason("schedule", f"due at {at}", facts.not_before)
        what, nth = facts.again
        return Reason("retry", f"backing off until {at} after {what} {nth}", facts.not_before)
    if facts.opens_at:
        text = f"the cluster is opening; runs start at {_at(facts.opens_at, facts)}"
        return Reason("opening", text, facts.opens_at)
    return None


def _queued(facts: Facts) -> Reason:
    """Return what a run that is due waits for, its place, and when it is expected to start."""
    full = facts.max_running is not None and facts.held >= facts.max_running
    word, ready = ("limit", 0) if full else ("free_worker", _ready(facts))
    what = _limit(facts) if full else _who(facts)
    if facts.place and facts.place <= ready:
        return Reason(word, what + _deadline(facts), place=facts.place)
    expected_at, place = _place(facts)
    text = "; ".join([place] if ready else [what, place]) + _deadline(facts)
    return Reason(word, text, expected_at, facts.place, facts.holders if full else ())


def _ready(facts: Facts) -> int:
    """Return how many runs of its queue may start at the next look."""
    if facts.remote:
        return 0
    return (
        facts.free if facts.max_running is None else min(facts.free, facts.max_running - facts.held)
    )


def _who(facts: Facts) -> str:
    if facts.remote:
        return "a remote worker has to ask for it"
    if facts.free or facts.slots is None:
        return "a worker takes it at its next look"
    slots = "the only slot" if facts.slots == 1 else f"all {facts.slots:,} slots"
    workers = "1 worker" if facts.workers == 1 else f"{facts.workers:,} workers"
    return f"{slots} of {workers} full"


def _place(facts: Facts) -> tuple[datetime | None, str]:
    if facts.place is None:
        return None, f"more than {facts.counted:,} before it"
    alone = facts.remote or facts.max_running is not None
    text = f"place {facts.place:,} {'of its kind' if alone else 'in the queue'}"
    if not facts.pace:
        return None, text
    wait = timedelta(seconds=facts.place / facts.pace)
    soon = "within a second" if wait < timedelta(seconds=1) else f"in about {span(wait)}"
    return facts.now + wait, f"{text}, expected to start {soon}"


def _limit(facts: Facts) -> str:
    runs = Counter(holder.worker for holder in facts.holders)
    named = list(runs.items())[:_NAMED]
    names = [worker if count == 1 else f"{worker} ({count} runs)" for worker, count in named]
    if (more := facts.held - sum(count for _, count in named)) > 0:
        names.append(f"{more:,} more")
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"limit of {facts.max_running:,} full, held by {listed}"


def _deadline(facts: Facts) -> str:
    if facts.start_by is None:
        return ""
    return f"; dropped unless it starts by {_at(facts.start_by, facts)}"


def _at(moment: datetime, facts: Facts) -> str:
    return clock(moment) + (f" (in {span(moment - facts.now)})" if facts.far else "")


def clock(moment: datetime) -> str:
    """Return a moment for people, to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def span(length: timedelta) -> str:
    """Return a length of time for people, with its two greatest units: `2 h 5 min`."""
    seconds = round(length.total_seconds())
    if seconds < 1:
        return "less than a second"
    for unit, smaller, name, of_it in _UNITS:
        if seconds >= unit:
            rest = seconds % unit // smaller
            return f"{seconds // unit:,} {name}" + (f" {rest} {of_it}" if rest else "")
    return f"{seconds} s"


_UNITS = ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s"))
