"""Firings: when a job starts next, by its own clock and UTC, and what clock changes do (pure)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cluster import schedule as schedules

_DAY = timedelta(days=1)
_HALVINGS = 27
"""Of a day: less than a millisecond is left."""


@dataclass(frozen=True, slots=True)
class Firing:
    """One of the next firings.

    Attributes:
        at: in UTC.
        local: by the wall clock of the schedule's zone.
        marks: what a change of clocks does before it or to it, one sentence each.
    """

    at: datetime
    local: datetime
    marks: list[str]


def upcoming(text: str, timezone: str, now: datetime, count: int) -> list[Firing]:
    """Return the next firings of a schedule.

    Args:
        text: of the schedule.
        timezone: a name of the IANA database.
        now: the first one comes later than this.
        count: how many.

    Raises:
        ScheduleError: no such schedule.
    """
    schedule, zone = schedules.parse(text, timezone), ZoneInfo(timezone)
    found, before = [], now
    for at in schedules.preview(schedule, now, count):
        local = at.astimezone(zone)
        marks = [*_changed(before, at, zone), *_shifted(schedule, text, local), *_twice(local)]
        found.append(Firing(at, local, marks))
        before = at
    return found


def _changed(before: datetime, at: datetime, zone: ZoneInfo) -> Iterator[str]:
    """Say if the clocks stand differently at a firing than at the one before."""
    was, is_now = before.astimezone(zone), at.astimezone(zone)
    if was.utcoffset() == is_now.utcoffset():
        return
    # The last change of several: back to a day on which they stood differently, then halving.
    early = late = at
    while early.astimezone(zone).utcoffset() == is_now.utcoffset():
        late, early = early, max(before, early - _DAY)
    for _ in range(_HALVINGS):
        middle = early + (late - early) / 2
        if middle.astimezone(zone).utcoffset() == is_now.utcoffset():
            late = middle
        else:
            early = middle
    # Offsets change at whole seconds; `late` is the first moment of the new one, or just after.
    moment = late.replace(microsecond=0)
    until = (moment - timedelta(seconds=1)).astimezone(zone) + timedelta(seconds=1)
    way = "forward" if (is_now.utcoffset() or _NONE) > (was.utcoffset() or _NONE) else "back"
    yield (
        f"clocks go {way} before this, on {moment.astimezone(zone):%Y-%m-%d}"
        f" from {until:%H:%M} to {moment.astimezone(zone):%H:%M}"
    )


_NONE = timedelta()


def _shifted(schedule: schedules.Schedule, text: str, local: datetime) -> Iterator[str]:
    """Say if a firing comes at another time of day than its line names, which was skipped."""
    if not isinstance(schedule, schedules.Cron):
        return
    # Read as if in UTC, which skips nothing, the line names this time of day or it does not.
    face = local.replace(tzinfo=UTC, fold=0)
    if schedules.parse(text).after(face - timedelta(microseconds=1)) != face:
        yield f"at {local:%H:%M}, for the clocks skip the time that the schedule names"


def _twice(local: datetime) -> Iterator[str]:
    """Say if the time of day comes twice."""
    if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset():
        which = "second" if local.fold else "first"
        yield f"{local:%H:%M} comes twice on this day; this is the {which} time"
