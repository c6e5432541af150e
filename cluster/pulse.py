"""Pulse: what a worker counts of its own work, minute by minute, until it is written."""

import math
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

EVERY_SECONDS = 10.0
"""Between two writes."""
STARTED = "started"
"""Stands with the outcomes, for attempts that began."""
_MINUTE = timedelta(minutes=1)
_KEPT = 2 * _MINUTE
"""Age of a minute that gets no more counts, even from a clock that was a little behind."""
_SENT = timedelta(hours=12)
"""Age at which a minute is sent no more, even if nothing was since. After a day anybody may add its
rows to the totals, and then it would come back and be added again."""


@dataclass(slots=True)
class Part:
    """What a minute of a worker says of one job, and of one end of its attempts.

    Attributes:
        attempts: that began, or ended so.
        seconds: from when each run was due until it started; or that each attempt took.
        last_at: when the last one was counted, by the database's clock.
    """

    attempts: int
    seconds: float
    last_at: datetime


@dataclass(slots=True)
class Count:
    """One minute of a worker.

    Attributes:
        minute: by the database's clock, its beginning.
        started: attempts that it began.
        ended: attempts whose end it has written, those of the dead included.
        failed: of these, ended otherwise than completed.
        delay_sum: seconds from when each run was due until it started.
        longest_delay: the longest of them.
        parts: the same by job, and by `STARTED` or the outcome.
    """

    minute: datetime
    started: int = 0
    ended: int = 0
    failed: int = 0
    delay_sum: float = 0.0
    longest_delay: float = 0.0
    parts: dict[tuple[str, str], Part] = field(default_factory=dict, compare=False)

    def add(self, job: str, what: str, seconds: float, now: datetime) -> None:
        """Count an attempt with the others of its job."""
        part = self.parts.get((job, what))
        if part is None:
            self.parts[job, what] = Part(1, seconds, now)
        else:
            part.attempts += 1
            part.seconds += seconds
            part.last_at = now


@dataclass(slots=True)
class Pulse:
    """Counts in memory; says when there is something to write, and what.

    A worker that has nothing to do has nothing to write. One whose runs are under way has: others
    may wait for them.

    Attributes:
        counted_at: when something was last counted that is not written; None: all is written.
    """

    counted_at: datetime | None = None
    _counts: dict[datetime, Count] = field(default_factory=dict)
    _latest: Count | None = None  # of `_counts`, the one that was counted in last
    _written_at: float = -math.inf  # monotonic
    _waiting: int = 0

    def started(self, now: datetime, delay: float, job: str = "") -> None:
        """Count an attempt that began, `delay` seconds after its run was due."""
        count = self._count(now)
        count.started += 1
        count.delay_sum += delay
        count.longest_delay = max(count.longest_delay, delay)
        count.add(job, STARTED, delay, now)

    def ended(self, now: datetime, outcome: str, job: str = "", seconds: float = 0.0) -> None:
        """Count an attempt whose end was written, and that took so many seconds."""
        count = self._count(now)
        count.ended += 1
        count.failed += outcome != "completed"
        count.add(job, outcome, seconds, now)

    def is_due(self, under_way: int) -> bool:
        """Whether it is time to write: something was counted, or is known to wait or to be held.

        Args:
            under_way: runs of this worker.
        """
        if time.monotonic() < self._written_at + EVERY_SECONDS:
            return False
        return self.counted_at is not None or under_way > 0 or self._waiting > 0

    def sent(self, now: datetime) -> list[Count]:
        """Return the minutes to write, the present one last; the next write is 10 s away.

        Each has all that was counted in it. Those that are over are returned until they were
        written when nothing could be counted in them any more, or are half a day old: a worker
        that was idle since has written them long ago.
        """
        self._written_at = time.monotonic()  # first, so that a trouble is not tried at every turn
        self._counts = {m: c for m, c in self._counts.items() if m > now - _SENT}
        self._present(now)
        return sorted(self._counts.values(), key=lambda count: count.minute)

    def written(self, now: datetime, waiting: int) -> None:
        """Take note that what was sent is written, and of how many runs wait."""
        self.counted_at = None
        self._waiting = waiting
        self._counts = {m: c for m, c in self._counts.items() if m > now - _KEPT}

    def _count(self, now: datetime) -> Count:
        self.counted_at = now
        return self._present(now)

    def _present(self, now: datetime) -> Count:
        if self._latest and self._latest.minute <= now < self._latest.minute + _MINUTE:
            return self._latest
        minute = now.replace(second=0, microsecond=0)
        self._latest = self._counts.get(minute) or self._counts.setdefault(minute, Count(minute))
        return self._latest
