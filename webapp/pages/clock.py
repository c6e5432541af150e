"""Clock: times and durations as pages say them; `static/ronin.js` says them in the same way."""

from datetime import datetime, timedelta

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_TENTHS_BELOW = 10


def duration(span: timedelta | float | None) -> str:
    """Return how long, in the two largest units: `0.4 s`, `3 min 12 s`, `2 h`.

    Args:
        span: seconds where it is a number; below zero counts as zero.
    """
    if span is None:
        return "–"
    seconds = max(span.total_seconds() if isinstance(span, timedelta) else float(span), 0.0)
    if seconds < _TENTHS_BELOW:
        return f"{int(seconds * 10) / 10:g} s"
    left = int(seconds)
    place = next(n for n, (_, size) in enumerate(_UNITS) if left >= size)
    unit, size = _UNITS[place]
    smaller, part = _UNITS[min(place + 1, len(_UNITS) - 1)]
    rest = left % size // part
    return f"{left // size} {unit}" + (f" {rest} {smaller}" if rest else "")


def whole(span: timedelta) -> str:
    """Return how long in whole seconds, for what is said anew each second."""
    return duration(int(max(span.total_seconds(), 0)))


def milliseconds(at: datetime) -> int:
    """Return a moment as the script counts it, since 1970."""
    return int(at.timestamp() * 1000)


def when(at: datetime | None) -> str:
    """Return a moment with its date."""
    return at.strftime("%Y-%m-%d %H:%M:%S UTC") if at else "–"


def iso(at: datetime) -> str:
    """Return a moment for the attribute `datetime`."""
    return at.isoformat(timespec="milliseconds")
