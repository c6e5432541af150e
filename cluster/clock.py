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
        self._took = 0.0
        self.jumped = 0.0

    def set(self, told: datetime, sent: float) -> None:
        """Take the time that an answer has just brought.

        `jumped` is then by how many seconds it surely differs from what was counted.

        Args:
            told: when the statement began, by the database's clock.
            sent: when it was sent, by the monotonic clock.
        """
        took = time.monotonic() - sent
        if self._told:
            differs = abs((told - self.now()).total_seconds())
            self.jumped = max(differs - took - self._took, 0.0)
        self._told, self._took = told, took
        self._at = time.monotonic()

    def now(self) -> datetime:
        """Return the database's time.

        Raises:
            LookupError: it has never told.
        """
        if self._told is None:
            raise LookupError("the database has not told its time yet")
        return self._told + timedelta(seconds=time.monotonic() - self._at)
