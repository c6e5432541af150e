"""Figures: what a benchmark has measured, said by all of them in the same way.

Each is printed when it is there, as a line for people. With RONIN_FIGURES set it is appended to
that file as well, a line of JSON each, for `make bench`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import orjson


@dataclass(frozen=True, slots=True)
class Figure:
    """Something measured.

    Attributes:
        name: what.
        value: how much, in `unit`.
        ceiling: what bounds it, in the same unit, measured in the same run.
        of: what the ceiling is, in words.
        note: versions and settings, or what else belongs to it.
    """

    name: str
    value: float
    unit: str
    ceiling: float | None = None
    of: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The value as a part of its ceiling."""
        return self.value / self.ceiling if self.ceiling else None


def say(figure: Figure) -> Figure:
    """Print a figure, keep it for `make bench`, and return it."""
    number = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:,.2f}"
    line = f"{figure.name:<58} {number:>9} {figure.unit:<12}"
    if figure.ratio is not None:
        line += f" {figure.ratio:6.2f} × {figure.of}"
    print(f"{line.rstrip()}{'  (' + figure.note + ')' if figure.note else ''}", flush=True)
    if kept := os.environ.get("RONIN_FIGURES"):
        with Path(kept).open("ab") as file:
            file.write(orjson.dumps(figure) + b"\n")
    return figure


def centiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    return median(values), quantiles(values, n=100, method="inclusive")[98]
