"""Looks: the same question again and again, also while the database is away."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from cluster.cli import reach
from cluster.cli.tables import moment
from cluster.database import Pool

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What is known.

    Attributes:
        seen: the newest answer, if there was one.
        away: why there is none now.
        since: when there was none for the first time, by this host's clock.
    """

    seen: T | None
    away: str | None = None
    since: datetime | None = None

    @property
    def complaint(self) -> str:
        """Since when there is no answer, and why."""
        return f"AWAY since {moment(self.since)} UTC: {self.away}"


def looks(url: str, read: Callable[[Pool], T], every: float) -> Iterator[Look[T]]:
    """Ask again and again on one connection, and on another one if that was lost.

    Args:
        url: of the database.
        read: asks.
        every: seconds between two looks.
    """
    seen: T | None = None
    since: datetime | None = None
    while True:
        try:
            with reach.opened(url) as pool:
                while True:
                    seen, since = read(pool), None
                    yield Look(seen)
                    time.sleep(every)
        except reach.Unreachable as error:
            since = since or datetime.now(UTC)
            yield Look(seen, error.message, since)
            time.sleep(every)
