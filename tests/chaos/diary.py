"""The diary of a run: what was done to whom, by the database's clock, and what that excuses."""

import json
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.plan import LEASE_SECONDS

CRASHED, INTERRUPTED = "crashed", "interrupted"
SLOW, DROPPED, LATE = "slow", "dropped", "late"
EVERYBODY = ""
STILL_SECONDS = LEASE_SECONDS / 4
"""Without an answer to somebody beside the database, to whom no fault was done: then the machine
itself has stood still, or the database has."""
DROPPED_SECONDS = 5.0
"""For which a death may still be felt by who had a connection to the dead."""
KILLED_SECONDS = 2.0
"""From a worker's death to the end of its runs, on the same host: what is promised."""
FROZEN_SECONDS = LEASE_SECONDS + 2.0
"""The same where nobody can see the death."""


@dataclass(slots=True)
class Excuse:
    """What may happen to whom and is no violation, because of a fault.

    Attributes:
        whom: a worker's name `instance:pid`, or `instance:`, or everybody.
        what: outcomes of attempts; `slow`: answers of HTTP that hang; `dropped`: requests without
            an answer; `late`: nobody can take over, because the database is away or they are
            frozen.
        since: when the fault began, by the database's clock.
        until: when its consequences are over; None while it lasts.
    """

    whom: str
    what: Sequence[str]
    since: datetime
    until: datetime | None = None

    def covers(self, whom: str, what: str, at: datetime) -> bool:
        """Whether this is what happened to them then."""
        meant = whom == self.whom or (self.whom.endswith(":") and whom.startswith(self.whom))
        in_time = self.since <= at and (self.until is None or at <= self.until)
        return what in self.what and in_time and (meant or self.whom == EVERYBODY)


@dataclass(frozen=True, slots=True)
class Loss:
    """A worker that was killed or frozen.

    Attributes:
        worker: its name.
        at: when, by the database's clock.
        within: seconds that are promised until its runs are taken over.
    """

    worker: str
    at: datetime
    within: float


@dataclass
class Diary:
    """Everything that the nemesis did, in memory for the judge and in a file for people.

    Attributes:
        url: of the database, past every proxy.
        folder: of the run; the file is `faults.jsonl`.
        excuses: see `Excuse`.
        losses: see `Loss`.
        counts: faults by kind.
        gave_up: instances that did not start; a supervisor would start them again, and so do we.
        stalls: seconds of each time in which the machine itself stood still.
        left_out: kinds that were due and that this machine can't do.
    """

    url: str
    folder: Path
    excuses: list[Excuse] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    gave_up: list[str] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self.set_clock()

    def set_clock(self) -> None:
        """Take the database's time, which must be there; from then on we count ourselves."""
        with psycopg.connect(self.url, connect_timeout=3) as connection:
            row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row
        self._told, self._at = row[0], time.monotonic()

    def now(self) -> datetime:
        """Return the database's time, also while it is away; never ahead of it."""
        counted: datetime = self._told + timedelta(seconds=time.monotonic() - self._at)
        return counted

    def write(self, what: str, **particulars: Any) -> None:
        """Write one line, with the times of the database and of the machine."""
        entry = {"at": self.now(), "monotonic": time.monotonic(), "what": what, **particulars}
        with self._lock, (self.folder / "faults.jsonl").open("a") as lines:
            lines.write(f"{json.dumps(entry, default=str)}\n")

    def say(self, text: str) -> None:
        """Tell a person how it goes."""
        sys.stdout.write(f"{time.monotonic() - self._begun:7.1f} s  {text}\n")
        sys.stdout.flush()

    def excuse(self, whom: str, *what: str) -> Excuse:
        """Excuse something from now on, until somebody sets an end to it."""
        made = Excuse(whom, what, self.now())
        self.excuses.append(made)
        return made

    def end(self, excuse: Excuse, aftermath: float) -> None:
        """Say that the fault is over, and for how many seconds it may still be felt."""
        excuse.until = self.now() + timedelta(seconds=aftermath)

    def stood_still(self, seconds: float) -> None:
        """Note that for so long until now nobody could have renewed a lease."""
        since, until = timedelta(seconds=seconds), timedelta(seconds=LEASE_SECONDS)
        what = (CRASHED, INTERRUPTED, LATE)
        self.excuses.append(Excuse(EVERYBODY, what, self.now() - since, self.now() + until))
        self.stalls.append(round(seconds, 2))
        self.write("stood still", seconds=seconds)

    def killed(self, worker: str) -> None:
        """Note that a worker is dead from now on."""
        self.losses.append(Loss(worker, self.now(), KILLED_SECONDS))
        self.excuses.append(Excuse(worker, (CRASHED, INTERRUPTED), self.now()))
        self.end(self.excuse(worker.partition(":")[0] + ":", DROPPED), DROPPED_SECONDS)

    def frozen(self, worker: str) -> None:
        """Note that a worker does nothing from now on, for longer than its lease."""
        self.losses.append(Loss(worker, self.now(), FROZEN_SECONDS))

    def excused(self, whom: str, what: str, at: datetime) -> bool:
        """Whether some fault explains it."""
        return any(excuse.covers(whom, what, at) for excuse in self.excuses)
