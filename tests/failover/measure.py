"""What was measured: how long the cluster stood still. Pure, but for what it is told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from tests.chaos.loads import Wish

NAMES = ("loss to promotion", "promotion to change", "promotion to run", "loss to change")


@dataclass(frozen=True, slots=True)
class Outage:
    """One promotion, as clients and runs felt it; all by the database's clock.

    Attributes:
        mode: how the primary was lost.
        lost_at: when it was; `promoted_at` since when the other one takes writes.
        changed_at: when a client was first told of a change after that.
        ran_at: when the first attempt of a run began after that.
    """

    mode: str
    lost_at: datetime
    promoted_at: datetime
    changed_at: datetime
    ran_at: datetime

    def seconds(self) -> dict[str, float]:
        """Return the lengths, by the names of `NAMES`."""
        spans = (
            self.promoted_at - self.lost_at,
            self.changed_at - self.promoted_at,
            self.ran_at - self.promoted_at,
            self.changed_at - self.lost_at,
        )
        return {name: span.total_seconds() for name, span in zip(NAMES, spans, strict=True)}

    def __str__(self) -> str:
        return ", ".join(f"{name} {taken:.2f} s" for name, taken in self.seconds().items())


def first_told(changes: Iterable[Wish], since: datetime) -> datetime | None:
    """Return when somebody was first told after a moment that a change is made."""
    told = (
        answer.begun_at + timedelta(seconds=answer.seconds)
        for wish in changes
        for answer in wish.told(200)
    )
    return min((at for at in told if at > since), default=None)


def table(outages: Sequence[Outage]) -> list[str]:
    """Return the figures, half of them below and the longest, for each mode and for all."""
    lines = [f"{'seconds, p50 / max':<20}{'n':>4}" + "".join(f"{name:>22}" for name in NAMES)]
    for mode in (*dict.fromkeys(sorted(each.mode for each in outages)), "all"):
        found = [each.seconds() for each in outages if mode in (each.mode, "all")]
        cells = ""
        for name in NAMES:
            values = [each[name] for each in found]
            cells += f"{f'{median(values):.2f} / {max(values):.2f}':>22}"
        lines.append(f"{mode:<20}{len(found):>4}{cells}")
    return lines
