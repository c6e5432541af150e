"""Charts: a figure for each of the last sixty minutes, as small pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from webapp.pages.clock import duration

HEIGHT = 40
_BAR = 0.8

Minute = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chart:
    """One small picture.

    Attributes:
        title: what is counted.
        last: the figure of the last whole minute, as text.
        most: the greatest figure, as text: where the picture's upper edge is.
        series: name and path of each series, the one behind first.
    """

    title: str
    last: str
    most: str
    series: list[tuple[str, str]]

    @property
    def words(self) -> str:
        """What the picture says, for who does not see it."""
        return f"{self.title}: {self.last} in the last whole minute, {self.most} at most in an hour"


def charts(minutes: Sequence[Minute]) -> list[Chart]:
    """Return queue depth, throughput and start delay.

    Args:
        minutes: as `pulse.minutes` gives them, the present one last.
    """
    return [
        _chart("Runs ended a minute", minutes, _count, ("ended", "ended"), ("failed", "failed")),
        _chart(
            "Start delay",
            minutes,
            duration,
            ("longest_delay_seconds", "longest"),
            ("mean_delay_seconds", "mean"),
        ),
        _chart("Due and waiting", minutes, _count, ("waiting", "waiting")),
    ]


def _chart(
    title: str, minutes: Sequence[Minute], say: Callable[[Any], str], *series: tuple[str, str]
) -> Chart:
    shown = series[0][0]
    most = max((minute[shown] or 0 for minute in minutes), default=0)
    whole = minutes[-2] if len(minutes) > 1 else None
    return Chart(
        title=title,
        last=say(whole[shown] if whole else None),
        most=say(most),
        series=[(name, _bars([m[key] or 0 for m in minutes], most)) for key, name in series],
    )


def _bars(values: Sequence[float], most: float) -> str:
    """Return a bar for each value that is not zero; each can be seen, however small."""
    path = []
    for place, figure in enumerate(values):
        if figure:
            height = max(figure / most * HEIGHT, 1)
            path.append(f"M{place + (1 - _BAR) / 2:g} {HEIGHT}v-{height:.4g}h{_BAR}v{height:.4g}z")
    return "".join(path)


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"
