"""Schedules: which moments a cron expression or an interval names (pure).

Moments come in and go out as aware datetimes in UTC; the wall clock of the schedule's time
zone exists in here alone. When clocks change, a schedule follows the rule of Debian's cron:

- A *wall-clock* schedule (neither its minute nor its hour field starts with `*`, as in
  `30 2 * * *`) fires once a day whatever the clock does: a time that is skipped fires at the
  first moment after the gap, a time that comes twice fires the first time only.
- Every other schedule (`*/30 * * * *`, `@hourly`, intervals) goes by elapsed time: through the
  gap and through the repeated hour it fires at its even distance.
"""

import math
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import islice
from typing import Protocol

from croniter import croniter
from croniter.croniter import CroniterError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+", re.ASCII)
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LONGEST_INTERVAL = 366 * 86400.0
_LONGEST = 100
"""Characters of a schedule; the longest sensible cron line is well under this."""


class ScheduleError(ValueError):
    """A schedule, a duration or a time zone makes no sense; the message says what is wrong."""


class Schedule(Protocol):
    """A rule that names moments."""

    def after(self, moment: datetime) -> datetime:
        """Return the first firing later than `moment`, in UTC."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Every `seconds`, counted from the Unix epoch, so that all workers agree without a word."""

    seconds: float

    def after(self, moment: datetime) -> datetime:
        """Return the first multiple of the interval later than `moment`, in UTC."""
        elapsed = (moment - _EPOCH).total_seconds()
        firing = _EPOCH + timedelta(seconds=(elapsed // self.seconds + 1) * self.seconds)
        # Rounding to microseconds can land on the moment itself.
        return firing if firing > moment else firing + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of five fields, or six with the seconds last, read in a time zone."""

    expression: str
    zone: zoneinfo.ZoneInfo

    def after(self, moment: datetime) -> datetime:
        """Return the first firing later than `moment`, in UTC; see the module for clock changes.

        Raises:
            ScheduleError: the expression names no moment within fifty years.
        """
        firings = croniter(self.expression, moment.astimezone(self.zone), ret_type=datetime)
        try:
            while True:
                firing: datetime = firings.get_next(datetime).astimezone(UTC)
                repeated = self._by_wall_clock and firing.astimezone(self.zone).fold == 1
                if firing > moment and not repeated:
                    return firing
        except CroniterError as error:
            raise ScheduleError(f"{self.expression!r} never fires") from error

    @property
    def _by_wall_clock(self) -> bool:
        return not any(field.startswith("*") for field in self.expression.split()[:2])


@lru_cache(1024)
def parse(text: str, timezone: str = "UTC") -> Schedule:
    """Read `*/5 * * * *`, `@daily` or `@every 90s`.

    Args:
        text: a cron expression of five fields, or of six with the seconds last; one of
            `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`;
            or `@every` with a duration such as `90s` or `1h30m`.
        timezone: a name of the IANA database, for cron expressions.

    Raises:
        ScheduleError: no such schedule or time zone, or one that never fires.
    """
    zone = _zone(timezone)
    text = _expanded(" ".join(text.split()))
    if len(text) > _LONGEST:
        raise ScheduleError(f"a schedule has at most {_LONGEST} characters")
    if text.startswith("@every "):
        return Interval(_interval(seconds(text.removeprefix("@every "))))
    _check_fields(text)
    schedule = Cron(text, zone)
    schedule.after(_EPOCH)  # one that never fires is refused here, not found out at its first plan
    return schedule


def preview(schedule: Schedule, moment: datetime, count: int) -> list[datetime]:
    """Return the next `count` firings later than `moment`, in UTC."""
    return list(islice(_firings(schedule, moment), count))


def passed(
    schedule: Schedule, after: datetime, until: datetime, most: int
) -> tuple[list[datetime], datetime | None]:
    """Return the firings later than `after` and not later than `until`.

    Returns:
        The first `most` of them, and the one that comes next if there are more.
    """
    found: list[datetime] = []
    for firing in _firings(schedule, after):
        if firing > until:
            break
        if len(found) == most:
            return found, firing
        found.append(firing)
    return found, None


def newest(schedule: Schedule, after: datetime, until: datetime, most: int) -> datetime:
    """Return a moment from which on at most `most` firings come until `until`; `after` if it does.

    Found by halving, so the cost hardly grows with the time between: after two weeks a schedule
    of every second is asked about a thousand times, and not a million.
    """
    while passed(schedule, after, until, most)[1] is not None:
        after = until - (until - after) / 2
    return after


def seconds(duration: str | float | timedelta) -> float:
    """Return a duration such as `45`, `"10m"` or `"1h30m"` (units s, m, h, d, w) in seconds.

    Raises:
        ScheduleError: it is none.
    """
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, int | float) and not isinstance(duration, bool):
        if math.isfinite(duration):
            return float(duration)
    elif isinstance(duration, str) and _DURATION.fullmatch(duration):
        parts = re.findall(r"([\d.]+)([smhdw])", duration)
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    raise ScheduleError(f"{duration!r} is no duration; write 30s, 10m or 1h30m")


def _firings(schedule: Schedule, moment: datetime) -> Iterator[datetime]:
    while True:
        moment = schedule.after(moment)
        yield moment


def _check_fields(text: str) -> None:
    """Refuse what croniter accepts but is not a crontab's: a year, random `R`, other digits."""
    fields = text.split()
    if len(fields) not in (5, 6) or not text.isascii():
        raise ScheduleError(f"{text!r} has not five fields, or six with the seconds last")
    if any(re.match(r"[rh]\b", field, re.IGNORECASE) for field in fields):
        raise ScheduleError(f"{text!r} asks for a random time")
    try:
        croniter.expand(text)
    except (CroniterError, ValueError) as error:
        raise ScheduleError(f"{text!r} is no cron expression: {error}") from error


def _expanded(text: str) -> str:
    """Return the five fields behind a name such as `@daily`; any other text as it is."""
    return _NAMED.get(text.lower(), text)


def _interval(duration: float) -> float:
    if not 1 <= duration <= _LONGEST_INTERVAL:
        raise ScheduleError("an interval is from one second to 366 days")
    return duration


@cache
def _zone(name: str) -> zoneinfo.ZoneInfo:
    # Only names of the database: anything else would be a path to open.
    if name not in _zones():
        raise ScheduleError(f"{name!r} is no time zone of the IANA database")
    return zoneinfo.ZoneInfo(name)


@cache
def _zones() -> set[str]:
    """Return all names; to look for them opens every file of the database."""
    return zoneinfo.available_timezones() - {"localtime", "posixrules"}
