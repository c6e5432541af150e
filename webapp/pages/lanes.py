"""Lanes: who did what in the last hour, as a picture; one lane a worker, one bar an attempt.

A bar lies where its times say, in seconds since `base`, a full hour. So the same data give the
same picture at any moment: what moves is the window over it, and the ends of what is under way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster.store.glance import Glance
from webapp.pages.marks import words

_SAMPLE = (16.0, 10.0)

_HOUR = 3600
_SPANS = {300: 60, 900: 300, _HOUR: 600}
"""Seconds that the window may show, and between two marks on its axis; the script has the same."""
_MARGIN = 3
"""Percent of the axis at either end without a mark."""
LANES = 60
"""Lanes of workers who are here, at most."""
GONE = 10
"""Lanes of workers who have left, the last ones."""
_MANY_ROWS = 6
_MOST_ROWS = 24
_EDGE = 2
_GRID = 600
_ROOMY, _TIGHT = 10, 5
_GAP = 3
_BANDS = {
    "completed": ((0, 10),),
    "failed": ((0, 3), (7, 10)),
    "crashed": ((0, 2), (4, 6), (8, 10)),
    "timed_out": ((0, 5), (8, 10)),
    "cancelled": ((4, 6),),
    "interrupted": ((5, 10),),
}
"""Which tenths of its height a bar fills: however long or short, its outcome can be told."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt.

    Attributes:
        run: its id.
        job: what ran.
        name: of a task.
        outcome: `running` while it is under way.
        started_at: on the database's clock.
        finished_at: None while it is under way.
        attempt: counted from 1.
        row: of its lane, counted from 0.
    """

    run: str
    job: str
    name: str | None
    outcome: str
    started_at: datetime
    finished_at: datetime | None
    attempt: int
    row: int


@dataclass(frozen=True, slots=True)
class Lane:
    """One worker.

    Attributes:
        worker: its name.
        gone: it has no lease any more.
        bars: the oldest first.
    """

    worker: str
    gone: bool
    bars: list[Bar]

    @property
    def running(self) -> list[Bar]:
        """What is under way, the oldest first."""
        return [bar for bar in self.bars if bar.finished_at is None]

    @property
    def ended(self) -> list[str]:
        """The outcomes of what has ended."""
        return [bar.outcome for bar in self.bars if bar.finished_at is not None]

    @property
    def bar_height(self) -> int:
        """Pixels of a bar: less where many lie above each other."""
        return _ROOMY if self._rows <= _MANY_ROWS else _TIGHT

    @property
    def _rows(self) -> int:
        return max((bar.row for bar in self.bars), default=0) + 1

    @property
    def height(self) -> int:
        """Pixels of the lane."""
        return self._rows * (self.bar_height + _GAP) - _GAP + 2 * _EDGE

    def y(self, bar: Bar) -> int:
        """Return the upper edge of a bar."""
        return _EDGE + bar.row * (self.bar_height + _GAP)

    def path(self, bar: Bar, base: float) -> str:
        """Return the shape of a bar that has ended."""
        assert bar.finished_at  # noqa: S101 - the caller looks
        width = (bar.finished_at - bar.started_at).total_seconds()
        left = bar.started_at.timestamp() - base
        return shape(bar.outcome, left, self.y(bar), width, self.bar_height)


@dataclass(frozen=True, slots=True)
class Lanes:
    """The picture.

    Attributes:
        base: seconds since 1970 of where x is 0.
        span: seconds that the window shows: as few as hold all bars, so that a cluster that has
            just begun can be seen.
        lanes: from the top.
        hidden: workers that have no lane any more.
        cut: some runs have no bar.
    """

    base: int
    span: int
    lanes: list[Lane]
    hidden: int
    cut: bool

    def left(self, now: datetime) -> float:
        """Return the left edge of the window."""
        return round(now.timestamp() - self.span - self.base, 1)

    def ticks(self, now: datetime) -> list[tuple[float, datetime]]:
        """Return the marks of the axis: percent from the left, and the moment."""
        left, step = now.timestamp() - self.span, _SPANS[self.span]
        first = int(-(-left // step) * step)
        found = [
            (100 * (at - left) / self.span, at) for at in range(first, first + self.span, step)
        ]
        return [
            (round(place, 2), datetime.fromtimestamp(at, UTC))
            for place, at in found
            if _MARGIN <= place <= 100 - _MARGIN
        ]

    def x(self, bar: Bar) -> float:
        """Return the left edge of a bar."""
        return round(bar.started_at.timestamp() - self.base, 1)

    def width(self, bar: Bar, now: datetime) -> float:
        """Return the width of a bar that is under way; the script lets it grow."""
        return round((now - bar.started_at).total_seconds(), 1)

    def grid(self, height: int) -> str:
        """Return a vertical line every ten minutes."""
        return "".join(f"M{x} 0v{height}" for x in range(0, 3 * _HOUR, _GRID))


def lanes(seen: Glance) -> Lanes:
    """Return the picture of a glance."""
    bars: dict[str, list[dict[str, Any]]] = {worker["name"]: [] for worker in seen.workers}
    here = set(bars)
    runs = [*seen.running, *seen.ended]
    for row in sorted(runs, key=lambda row: (row["started_at"], row["job"], row["run_id"])):
        bars.setdefault(row["worker"], []).append(row)
    gone = sorted(set(bars) - here, key=lambda name: (_last(bars[name]), name), reverse=True)
    shown = [*sorted(here)[:LANES], *gone[:GONE]]
    # By the minute in which the hour began, so that all who look in one minute agree.
    oldest = min((row["started_at"] for row in runs), default=seen.since)
    age = _HOUR - (oldest - seen.since).total_seconds()
    return Lanes(
        base=int(seen.since.timestamp()) // _HOUR * _HOUR,
        span=next((span for span in _SPANS if age + 60 <= span), _HOUR),
        lanes=[Lane(name, name not in here, list(_packed(bars[name]))) for name in shown],
        hidden=len(bars) - len(shown),
        cut=seen.cut,
    )


def shape(outcome: str, x: float, y: float, width: float, height: float) -> str:
    """Return the path of a bar: as many bands as its outcome has."""
    tenth = height / 10
    return "".join(
        f"M{x:.1f} {y + top * tenth:g}h{width:.1f}v{(end - top) * tenth:g}h-{width:.1f}z"
        for top, end in _BANDS.get(outcome, ((0, 10),))
    )


def sample(outcome: str) -> str:
    """Return a bar for a legend."""
    width, height = _SAMPLE
    return shape(outcome, 1, 1, width, height)


def title(bar: Bar) -> str:
    """Return what a bar says of itself."""
    name = f"{bar.job}: {bar.name}" if bar.name else bar.job
    ended = f"{bar.finished_at:%H:%M:%S}" if bar.finished_at else "now"
    attempt = f", attempt {bar.attempt}" if bar.attempt > 1 else ""
    return f"{name}\n{words(bar.outcome)}{attempt}\n{bar.started_at:%H:%M:%S} – {ended}"


def _last(rows: Sequence[dict[str, Any]]) -> datetime:
    last: datetime = max(row["finished_at"] or row["started_at"] for row in rows)
    return last


def _packed(rows: Sequence[dict[str, Any]]) -> Iterator[Bar]:
    """Yield bars, each in the uppermost row that is free at its start."""
    ends: list[float] = []
    for row in rows:
        begin = row["started_at"].timestamp()
        place = next((n for n, end in enumerate(ends) if end <= begin), len(ends))
        place = min(place, _MOST_ROWS - 1)
        finished = row["finished_at"]
        ends[place : place + 1] = [finished.timestamp() if finished else float("inf")]
        yield Bar(
            run=str(row["run_id"]),
            job=row["job"],
            name=row["name"],
            outcome=row["outcome"],
            started_at=row["started_at"],
            finished_at=finished,
            attempt=row["attempt"],
            row=place,
        )
