"""Evenness: how equally the workers share the work, as a figure."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.store.views import Row

_TOGETHER_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Evenness:
    """The workers, and how far apart they are.

    Attributes:
        rows: the workers.
        now: runs under way of the most loaded less those of the least; None without workers.
        words: what is to be said of it.
        most_load: runs under way of the most loaded, of all.
        most_started: runs that one of them has started in the last hour, at most.
    """

    rows: list[Row]
    now: int | None
    words: str
    most_load: int
    most_started: int


def evenness(workers: Sequence[Row]) -> Evenness:
    """Return how evenly the work is spread.

    Remote workers take what they ask for, and who is leaving takes nothing more: neither counts.
    The last hour is compared between those who have been there for as long as the eldest.
    """
    sharing = [row for row in workers if not (row["remote"] or row["leaving"])]
    loads = [row["load"] for row in sharing]
    eldest = min((row["started_at"] for row in sharing), default=None)
    started = [
        row["started"]
        for row in sharing
        if (row["started_at"] - eldest).total_seconds() < _TOGETHER_SECONDS
    ]
    said = [_said("under way", loads), _said("started in an hour", started)]
    return Evenness(
        rows=list(workers),
        now=max(loads) - min(loads) if loads else None,
        words="; ".join(filter(None, said)),
        most_load=max((row["load"] for row in workers), default=0),
        most_started=max((row["started"] for row in workers), default=0),
    )


def _said(what: str, counts: Sequence[int]) -> str:
    if not counts:
        return ""
    least, most = min(counts), max(counts)
    each = f"{least} each" if least == most else f"{least} to {most}, {most - least} apart"
    return f"{what}: {each}"
