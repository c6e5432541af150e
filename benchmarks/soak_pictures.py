"""Pictures of a soak, drawn with matplotlib, which is no part of the lock file.

Colours are those of Okabe and Ito, which people see apart who see colours otherwise; and each line
has its own dashes and its name at its end.
"""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from itertools import cycle, groupby, pairwise
from pathlib import Path
from typing import Any

from benchmarks.soak_samples import Sample
from benchmarks.soak_verdict import GROW_BY_DESIGN, WARM_UP

MISSING = "pictures need matplotlib: .venv/bin/python -m pip install matplotlib"

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
_INCHES = (9.0, 3.0)
_APART = 0.055
"""Of a panel's height: the names at the lines' ends don't lie upon each other."""

Series = dict[str, list[tuple[float, float]]]


def available() -> bool:
    """Whether pictures can be drawn here."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(samples: Sequence[Sample], folder: Path) -> list[Path]:
    """Draw all pictures into a folder, which is there; return the files.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    drawn = []
    for name, panels in _pictures(samples).items():
        drawn.append(folder / f"{name}.png")
        _draw(panels, drawn[-1], samples[-1]["seconds"] / 60)
    return drawn


def _pictures(samples: Sequence[Sample]) -> dict[str, list[tuple[str, str, Series]]]:
    """Return the panels of each picture: a title, a unit, the lines."""

    def plain(what: str, factor: float = 1.0, but: Sequence[str] = ()) -> Series:
        return _series(samples, what, lambda value: value * factor, but)

    def some(what: str, names: Sequence[str], factor: float = 1.0) -> Series:
        found = plain(what, factor)
        return {name: found[name] for name in names if name in found}

    indexes = [name for name in plain("bytes") if name.startswith("run_") and name != "run_hourly"]
    others = [*GROW_BY_DESIGN, "run", *indexes]
    small = {
        name: points
        for name, points in plain("bytes", 1e-3, others).items()
        if points[-1][1] != points[0][1]
    }
    dead = {
        name: points
        for name, points in plain("dead").items()
        if max(value for _, value in points) >= 50
    }
    return {
        "processes": [
            ("Memory of each worker (PSS)", "MB", some("memory", _workers(samples))),
            ("Memory of PostgreSQL's processes, without what they share",
             "MB", some("backends", ["PostgreSQL"])),
            ("Threads of each worker", "", plain("threads")),
            ("Open descriptors of each worker", "", plain("descriptors")),
            ("Connections of the database, in all", "", plain("connections")),
        ],
        "queue": [
            ("The table run, in pages of its own", "kB", some("bytes", ["run"], 1e-3)),
            ("Each index of run", "kB", some("bytes", indexes, 1e-3)),
            ("Rows of run that live", "", plain("live")),
            ("Other tables that change their size, and are not meant to grow", "kB", small),
            ("Dead rows, the most of each minute, where they were more than 50", "", _most(dead)),
        ],
        "growth": [
            ("What grows by design, with its indexes",
             "MB", some("bytes", list(GROW_BY_DESIGN), 1e-6)),
            ("Rows written to them", "1/s", _rate(samples, "written", list(GROW_BY_DESIGN))),
        ],
        "service": [
            ("From due to started, by the minute", "ms", plain("start ms")),
            ("Answers to requests, by the minute", "ms", plain("answer ms")),
            ("Requests", "1/s", _rate_of_counts(samples)),
            ("Processor", "% of a core", _processor(samples)),
        ],
    }  # fmt: skip


def _workers(samples: Sequence[Sample]) -> list[str]:
    return [name for name in _series(samples, "memory") if name.startswith("worker")]


def _series(
    samples: Sequence[Sample],
    what: str,
    value: Callable[[float], float] = float,
    but: Sequence[str] = (),
) -> Series:
    found: Series = {}
    for sample in samples:
        for key, figure in sample.items():
            group, _, name = key.partition("/")
            if group == what and name not in but:
                found.setdefault(name, []).append((sample["seconds"] / 60, value(figure)))
    return found


def _by_minute(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return one point of each whole minute: the last."""
    whole = {int(minute): (minute, value) for minute, value in points}
    return [point for minute, point in whole.items() if minute < max(whole)]


def _most(series: Series) -> Series:
    """Return the greatest value of each minute."""
    return {
        name: [
            (float(minute), max(value for _, value in group))
            for minute, group in groupby(points, lambda point: int(point[0]))
        ]
        for name, points in series.items()
    }


def _rate(samples: Sequence[Sample], what: str, names: Sequence[str]) -> Series:
    """Return by how much what only grows has grown in a second, by the minute."""
    found, known = {}, _series(samples, what)
    for name in names:
        points = _by_minute(known.get(name, []))
        found[name] = [
            (minute, (value - before) / (minute - earlier) / 60)
            for (earlier, before), (minute, value) in pairwise(points)
        ]
    return {name: points for name, points in found.items() if points}


def _rate_of_counts(samples: Sequence[Sample]) -> Series:
    total, sums = 0.0, []
    for sample in samples:
        total += sample.get("requests/answered", 0.0)
        sums.append({"seconds": sample["seconds"], "answered/answered": total})
    return _rate(sums, "answered", ["answered"])


def _processor(samples: Sequence[Sample]) -> Series:
    names = list(_series(samples, "cpu"))
    percent = _rate(samples, "cpu", names)
    return {
        name: [(minute, 100 * value) for minute, value in points]
        for name, points in percent.items()
    }


def _draw(panels: list[tuple[str, str, Series]], file: Path, minutes: float) -> None:
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("agg")
    plots = importlib.import_module("matplotlib.pyplot")
    width, height = _INCHES
    figure, places = plots.subplots(
        len(panels), 1, figsize=(width, height * len(panels)), sharex=True, squeeze=False
    )
    for place, (title, unit, series) in zip(places[:, 0], panels, strict=True):
        _panel(place, f"{title}, {unit}" if unit else title, series, minutes)
    places[-1, 0].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(file, dpi=90)
    plots.close(figure)


def _panel(place: Any, title: str, series: Series, minutes: float) -> None:
    styles = zip(cycle(_COLOURS), cycle(_DASHES), strict=False)
    ends = []
    for (name, points), (colour, dashes) in zip(series.items(), styles, strict=False):
        times, values = zip(*points, strict=True)
        place.plot(times, values, color=colour, linestyle=dashes, linewidth=1.3)
        ends.append((values[-1], name, colour))
    place.axvspan(0, minutes * WARM_UP, color="#000000", alpha=0.06, linewidth=0)
    place.set_title(title, loc="left", fontsize=10)
    place.set_xlim(0, minutes)
    place.set_ylim(bottom=0)
    place.margins(y=0.15)
    place.grid(axis="y", linewidth=0.4, color="#cccccc")
    place.tick_params(labelsize=8)
    for side in ("top", "right"):
        place.spines[side].set_visible(False)
    _write_names(place, ends)


def _write_names(place: Any, ends: list[tuple[float, str, str]]) -> None:
    """Write each line's name at its end, moved so that all of them can be read."""
    top = place.get_ylim()[1]
    heights: list[float] = []
    for value, _, _ in sorted(ends):
        heights.append(max(value / top, heights[-1] + _APART if heights else 0.0))
    above = 1.0
    for number in reversed(range(len(heights))):  # back from where they stand out at the top
        heights[number] = min(heights[number], above)
        above = heights[number] - _APART
    for height, (_, name, colour) in zip(heights, sorted(ends), strict=True):
        place.annotate(
            name, (1.01, height), xycoords="axes fraction", color=colour, fontsize=8, va="center"
        )
