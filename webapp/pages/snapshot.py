"""Snapshot: the live page's data, taken at most once a second, however many look."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from webapp import pages

EVERY = 1.0
"""Seconds between two snapshots of a process at least."""
_PART = 10
"""A snapshot serves that many times as long as it took: so on a machine that has much else to do,
and on a slow database, looking stays a small part of what a process does."""
_LONGEST = 10.0
"""Seconds that one serves at most."""

Parts = dict[str, object]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was so at one moment.

    Attributes:
        now: the database's clock.
        taken: this process's monotonic clock, when it was asked for.
        serves: seconds until there may be a newer one.
        parts: what each part of the page shows, by name, without the clock.
        tags: names the state of each part, in the same order.
    """

    now: datetime
    taken: float
    serves: float
    parts: Parts
    tags: Sequence[str]

    @property
    def age(self) -> float:
        """Seconds since it was taken."""
        return time.monotonic() - self.taken

    @property
    def etag(self) -> str:
        """Names the state of the whole; one part of it for each part of the page."""
        return ".".join([pages.BUILD, *self.tags])

    @property
    def clock(self) -> datetime:
        """What the database's clock says by now."""
        return self.now + timedelta(seconds=self.age)

    def changed(self, etag: str) -> list[str]:
        """Return the parts that differ from what somebody has; all, if that is unknown here."""
        build, *tags = etag.split(".")
        if build != pages.BUILD or len(tags) != len(self.tags):
            return list(self.parts)
        return [
            name
            for name, ours, theirs in zip(self.parts, self.tags, tags, strict=True)
            if ours != theirs
        ]


class Snapshots:
    """The newest snapshot of this process, for all its threads.

    One thread takes it while the others go on with the one before: a database that is slow, or
    away, holds up one of them and not all.

    Args:
        read: returns the database's clock and the parts.
    """

    def __init__(self, read: Callable[[], tuple[datetime, Parts]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._newest: Snapshot | None = None
        self._error: psycopg.Error | None = None
        self._next_at = float("-inf")  # monotonic

    def get(self) -> Snapshot:
        """Return one that is as new as may be, or being renewed.

        Raises:
            psycopg.Error: the database does not answer; it was asked less than a second ago.
        """
        if time.monotonic() >= self._next_at:
            self._renew()
        if self._error:
            raise type(self._error)(str(self._error))
        assert self._newest  # noqa: S101 - there was no error
        return self._newest

    def _renew(self) -> None:
        first = not (self._newest or self._error)
        if not self._lock.acquire(blocking=first):
            return
        try:
            if time.monotonic() >= self._next_at:
                self._take()
        finally:
            self._lock.release()

    def _take(self) -> None:
        begun = time.monotonic()
        try:
            now, parts = self._read()
            tags = [pages.digest(part) for part in parts.values()]
            took = time.monotonic() - begun
            serves = max(min(took * _PART, _LONGEST), EVERY)
            self._newest, self._error = Snapshot(now, begun, serves, parts, tags), None
            self._next_at = begun + serves
        except psycopg.Error as error:
            self._error = error
            self._next_at = max(begun + EVERY, time.monotonic() + EVERY / 2)
