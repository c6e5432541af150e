"""The verdict of a soak: what grew beyond what is allowed (pure).

After the warm-up a run has two halves. What rises is the median of the second half above that of
the first, and it may rise by

- what the first half itself varies by, from its median to its 95th percentile: what grows evenly
  rises by twice as much, however fast or slow it grows; and
- a floor for each sort of figure, below which a rise says nothing. `FLOORS` says where each
  comes from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import linear_regression, median, quantiles

from benchmarks.soak_samples import Sample

GROW_BY_DESIGN = {
    "history": "a row an attempt; days are dropped whole after RONIN_RETENTION_DAYS",
    "ledger": "a row a change of a balance; append-only",
    "idempotency": "a row a key of a change; dropped after a day",
    "task_key": "a row a key of a task; dropped after a day",
    "log_chunk": "what runs say; dropped after RONIN_RETENTION_DAYS",
    "pulse": "a row a minute and worker; dropped after a day",
    "action": "a row an action of a person, a cancel for one; kept for RONIN_RETENTION_DAYS",
    "run_hourly": "a row an hour and job; dropped after RONIN_RETENTION_DAYS",
}
"""Tables that are not judged, but told with their rows a second, and what bounds them."""

WARM_UP = 1 / 6
"""Part of a run that is not judged: pools and caches fill, the first vacuums come."""

_BY_CHANCE = ("descriptors",)
"""Judged for all processes together: who accepts a connection has it for long, and another not."""

_ARENA_MB = 1.048576
_SMALLEST_OBJECT = 48 / 1e6
_PAGES = 10 * 8192
_ENOUGH = 4
_HOUR = 3600.0


def _memory(first: float, operations: float) -> float:
    del first
    return _ARENA_MB + _SMALLEST_OBJECT * operations


def _fifth(first: float, _operations: float) -> float:
    return max(first / 5, _PAGES)


FLOORS: dict[str, tuple[Callable[[float, float], float], str]] = {
    "memory": (
        _memory,
        (
            "1 MiB, an arena of CPython's allocator, and 48 bytes for each operation of a process: "
            "the least that one object kept takes"
        ),
    ),
    "backends": (
        lambda first, _: first / 10,
        (
            "a tenth: a connection prepares a statement at its fifth use, so rare ones come "
            "late, and a hundred at most"
        ),
    ),
    "threads": (lambda *_: 1, "one"),
    "descriptors": (lambda *_: 1, "one"),
    "connections": (lambda *_: 1, "one"),
    "bytes": (
        _fifth,
        (
            "a fifth, or ten pages: PostgreSQL vacuums when a fifth is dead "
            "(autovacuum_vacuum_scale_factor)"
        ),
    ),
    "dead": (
        lambda first, _: max(first / 5, 50),
        "a fifth, or 50 (autovacuum_vacuum_threshold)",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure over a run.

    Attributes:
        name: `what/of whom`.
        first: median of the first half, after the warm-up.
        second: of the second half.
        slope: by which it changes in an hour, by least squares.
        allowed: how much `second` may be above `first`.
    """

    name: str
    first: float
    second: float
    slope: float
    allowed: float

    @property
    def constant(self) -> bool:
        """Whether it did not change at all."""
        return self.first == self.second and self.slope == 0

    @property
    def fine(self) -> bool:
        """Whether it rose no more than it may."""
        return self.second - self.first <= self.allowed


def findings(samples: Sequence[Sample], workers: int) -> list[Finding]:
    """Return what is judged, in the order of the samples' figures.

    Args:
        samples: of the whole run.
        workers: among whom its operations are shared.

    Raises:
        ValueError: too few samples to say anything.
    """
    end = samples[-1]["seconds"] if samples else 0.0
    warm = [_summed(each) for each in samples if each["seconds"] >= end * WARM_UP]
    if len(warm) < 2 * _ENOUGH:
        raise ValueError("too few samples after the warm-up to compare its halves")
    operations = _operations(warm) / 2 / workers
    return [_finding(name, warm, operations) for name in _judged(warm)]


def _summed(sample: Sample) -> Sample:
    """Return a sample with one figure of all processes for what is theirs by chance."""
    summed: Sample = {}
    for name, figure in sample.items():
        what, _, whose = name.partition("/")
        key = f"{what}/all {whose.split()[0]}s" if what in _BY_CHANCE else name
        summed[key] = summed.get(key, 0.0) + figure
    return summed


def _judged(samples: Sequence[Sample]) -> list[str]:
    names = dict.fromkeys(name for sample in samples for name in sample)
    return [
        name
        for name in names
        if name.split("/")[0] in FLOORS and name.split("/")[-1] not in GROW_BY_DESIGN
    ]


def _operations(samples: Sequence[Sample]) -> float:
    """Return the requests that were answered and the attempts that ended."""
    attempts = [sample.get("written/history", 0.0) for sample in samples]
    return sum(sample["requests/answered"] for sample in samples) + attempts[-1] - attempts[0]


def _finding(name: str, samples: Sequence[Sample], operations: float) -> Finding:
    times = [sample["seconds"] for sample in samples if name in sample]
    values = [sample[name] for sample in samples if name in sample]
    halves = values[: len(values) // 2], values[len(values) // 2 :]
    first, second = (median(half or [0.0]) for half in halves)
    own = quantiles(halves[0], n=20)[-1] - first if len(halves[0]) > 1 else 0.0
    floor, _ = FLOORS[name.split("/", maxsplit=1)[0]]
    slope = linear_regression(times, values).slope * _HOUR if len(values) > 1 else 0.0
    return Finding(name, first, second, slope, max(own, floor(first, operations)))


def rates(samples: Sequence[Sample]) -> list[tuple[str, float, float]]:
    """Return what grows by design: its table, rows a second, bytes of a row with its indexes."""
    warm = [each for each in samples if each["seconds"] >= samples[-1]["seconds"] * WARM_UP]
    begin, end = warm[0], warm[-1]
    seconds = end["seconds"] - begin["seconds"]
    found = []
    for name in GROW_BY_DESIGN:
        rows = end.get(f"written/{name}", 0.0) - begin.get(f"written/{name}", 0.0)
        size = end.get(f"bytes/{name}", 0.0) - begin.get(f"bytes/{name}", 0.0)
        if rows and seconds:
            found.append((name, rows / seconds, size / rows))
    return found
