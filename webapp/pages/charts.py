"""Charts: a figure for each of the last sixty minutes, as small pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from webapp.pages.clock import duration

HEIGHT = 40
_BAR = 0.8
_NARROW = {"failed": 0.4}
"""Series that are told by their shape as well from what they lie over."""

Minute = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chart:
    """One small picture.

    Attributes:
        title: what is counted.
        last: the figure of the last whole minute, as text.
        most: the greatest figure, as text: where the picture's upper edge is.
        beside: what is to be said of each further series.
        series: name and path of each series, the one behind first.
    """

    title: str
    last: str
    most: str
    beside: list[str]
    series: list[tuple[str, str]]

    @property
    def words(self) -> str:
        """What the picture says, for who does not see it."""
        first = (
            f"{self.title}: {self.last} in the last whole minute, {self.most} at most in an hour"
        )
        return "; ".join([first, *self.beside])


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
    most = _most(minutes, shown)
    return Chart(
        title=title,
        last=say(_last(minutes, shown)),
        most=say(most),
        beside=[
            f"{name}: {say(_last(minutes, key))}, {say(_most(minutes, key))} at most"
            for key, name in series[1:]
        ],
        series=[
            (name, _bars([m[key] or 0 for m in minutes], most, _NARROW.get(name, _BAR)))
            for key, name in series
        ],
    )


def _last(minutes: Sequence[Minute], key: str) -> Any:
    """Return the figure of the last whole minute; None if there is none."""
    return minutes[-2][key] if len(minutes) > 1 else None


def _most(minutes: Sequence[Minute], key: str) -> Any:
    return max((minute[key] or 0 for minute in minutes), default=0)


def _bars(values: Sequence[float], most: float, width: float) -> str:
    """Return a bar for each value that is not zero; each can be seen, however small."""
    path = []
    for place, figure in enumerate(values):
        if figure:
            height = max(figure / most * HEIGHT, 1)
            path.append(
                f"M{place + (1 - width) / 2:g} {HEIGHT}v-{height:.4g}h{width}v{height:.4g}z"
            )
    return "".join(path)


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"
