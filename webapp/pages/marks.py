"""Marks: outcomes as small shapes, so that colour alone says nothing."""

from collections import Counter
from collections.abc import Sequence

_STEP = 7
_SHAPES = {
    "completed": "v12h5v-12z",
    "failed": "l5 12m0 -12l-5 12",
    "crashed": "m2.5 1l2.5 5l-2.5 5l-2.5 -5z",
    "timed_out": "h5l-5 12h5l-5 -12z",
    "cancelled": "m0 3.5h5v5h-5z",
    "interrupted": "m0 6v6h5v-6z",
    "skipped": "m0 6h5",
    "missed": "m0 11.5h5",
    "fenced": "m0 3.5h5v5h-5zm2.5 -3.5v12",
}
"""From the upper left corner of a cell of 5 × 12."""


def mark_paths(outcomes: Sequence[str]) -> list[tuple[str, str]]:
    """Return a path for each outcome that comes, with all its marks; the newest on the right.

    Args:
        outcomes: the newest first.
    """
    paths: dict[str, list[str]] = {}
    for place, outcome in enumerate(reversed(outcomes)):
        shape = _SHAPES.get(outcome, _SHAPES["skipped"])
        paths.setdefault(outcome, []).append(f"M{place * _STEP + 1} 1{shape}")
    return [(outcome, "".join(parts)) for outcome, parts in paths.items()]


def tally(outcomes: Sequence[str]) -> str:
    """Return in words what the marks say: `19 completed, 1 failed`."""
    counts = Counter(outcomes).most_common()
    return ", ".join(f"{count} {words(outcome)}" for outcome, count in counts)


def words(outcome: str) -> str:
    """Return an outcome as people read it."""
    return outcome.replace("_", " ")
