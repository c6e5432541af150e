"""Pictures: where bars stand, in the units of an SVG's view box (pure)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

WIDTH = 1000.0
HEIGHT = 160.0
_LEAST = 3.0
"""Units of a bar at least, so that whatever happened can be seen."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, and the row that it stands for."""

    x: float
    y: float
    width: float
    height: float
    row: Mapping[str, Any]


def columns(rows: Sequence[Mapping[str, Any]], places: int) -> list[Bar]:
    """Return a column for each finished attempt, as high as it was long, oldest on the left.

    Args:
        rows: attempts with `duration_seconds`.
        places: columns that there is room for; fewer rows stand on the right.
    """
    longest = max((row["duration_seconds"] for row in rows), default=0) or 1
    step = WIDTH / places
    first = places - len(rows)
    bars = []
    for place, row in enumerate(rows):
        height = max(_LEAST, HEIGHT * row["duration_seconds"] / longest)
        x = (first + place) * step
        bars.append(Bar(_r(x), _r(HEIGHT - height), _r(step * 0.8), _r(height), row))
    return bars


def lanes(
    rows: Sequence[Mapping[str, Any]], start: datetime, end: datetime, height: float
) -> Iterator[Bar]:
    """Yield a bar for each attempt, one below the other, from its start to its end.

    Args:
        rows: attempts with `started_at`, `finished_at`; without an end it is still under way.
        start: the left edge.
        end: the right edge.
        height: of a lane.
    """
    whole = (end - start).total_seconds() or 1
    for place, row in enumerate(rows):
        begun = row["started_at"] or row["finished_at"]
        left = max(0.0, (begun - start).total_seconds() / whole * WIDTH)
        right = ((row["finished_at"] or end) - start).total_seconds() / whole * WIDTH
        width = max(_LEAST, min(right, WIDTH) - left)
        x = min(left, WIDTH - width)
        yield Bar(_r(x), _r(place * height), _r(width), height, row)


def _r(number: float) -> float:
    return round(number, 1)


def steps(values: Sequence[int]) -> str:
    """Return the path of a line that goes from value to value in steps, oldest on the left.

    The bottom is zero or the least of them, the top the greatest.
    """
    if not values:
        return ""
    low, high = min(0, *values), max(values)
    step = WIDTH / len(values)

    def y(value: int) -> float:
        return _r(HEIGHT * (1 - (value - low) / ((high - low) or 1)))

    parts = [f"V{y(value)}H{_r((place + 1) * step)}" for place, value in enumerate(values)]
    return f"M0 {y(values[0])}{''.join(parts)}"
