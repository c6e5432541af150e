"""Clock: the database's time between two of its answers."""

import time
from datetime import datetime, timedelta


class Clock:
    """Counts on from the last time that the database told, by this process's monotonic clock.

    Never ahead of the database: what it told was its time when a statement began, and is taken
    for its time when the answer was here. A host's own wall clock plays no part.
    """

    def __init__(self) -> None:
        self._told: datetime | None = None
        self._at = 0.0

    def set(self, told: datetime) -> None:
        """Take the time that an answer has just brought."""
        self._told = told
        self._at = time.monotonic()

    def now(self) -> datetime:
        """Return the database's time.

        Raises:
            LookupError: it has never told.
        """
        if self._told is None:
            raise LookupError("the database has not told its time yet")
        return self._told + timedelta(seconds=time.monotonic() - self._at)
