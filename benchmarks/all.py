"""Run every benchmark, one after the other, and print what was found beside what was aimed at.

    python benchmarks/all.py [--only balance,drain] [--quick]

Takes about an hour; with `--quick` less rows, less rounds and no peers: a quarter of it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.figures import Figure

_HERE = Path(__file__).parent
_COMMANDS: dict[str, tuple[str, str]] = {
    # The whole one, and the quick one.
    "balance": ("balance.py --rounds 5 --express", "balance.py --rounds 1"),
    "slow": ("balance.py --rounds 3 --flush-ms 2", "balance.py --rounds 1 --flush-ms 2"),
    "drain": ("drain.py --rounds 3 --peers all", "drain.py --rounds 1"),
    "tasks": ("tasks.py --rows 100000,1000000,10000000", "tasks.py --rows 100000"),
    "delays": ("delays.py", "delays.py --tasks 100 --seconds 15"),
    "idle": ("idle.py", "idle.py --seconds 15"),
    "takeover": ("takeover.py --kills 100", "takeover.py --kills 5"),
    "spread": ("spread.py --starts 20", "spread.py --starts 2"),
    "gil": ("gil.py", "gil.py --rounds 1 --requests 1000"),
    "viewers": ("viewers.py", "viewers.py --rounds 1"),
    "pages": ("pages.py", "pages.py"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is aimed at.

    Attributes:
        figure: its name begins so.
        least: of its ratio or value.
        most: of its ratio or value.
        ratio: it is about the ratio.
    """

    figure: str
    least: float | None = None
    most: float | None = None
    ratio: bool = False

    @property
    def words(self) -> str:
        """What is aimed at."""
        times = " ×" if self.ratio else ""
        bound = f"≥ {self.least:,g}" if self.least is not None else f"≤ {self.most:,g}"
        return bound + times

    def met(self, figure: Figure) -> bool:
        """Whether a figure is what was aimed at."""
        value = figure.ratio if self.ratio else figure.value
        if value is None:
            return False
        return value >= self.least if self.least is not None else value <= (self.most or 0)


_GROWN = (
    *("a task after its commit", "GET /tasks", "GET /tasks, page in the middle"),
    *("GET /tasks?status=4", "GET /tasks/{id}, newest", "GET /tasks/{id}, from the middle"),
    "GET /jobs",
)
_MOST_ROWS = "10,000,000 rows"
_GROWTH = 1.3
TARGETS = (
    Target("10,000 at one moment, Ronin", least=0.6, ratio=True),
    Target("10,000 at one moment, Ronin against Express and pg", least=2, ratio=True),
    Target("64 connections, Ronin, flush +2 ms against the plain UPDATE", least=5, ratio=True),
    Target("drain, Ronin, RONIN_MAX_CONCURRENCY=400", least=0.7, ratio=True),
    Target("drain, Ronin at its best against the best peer", least=1.2, ratio=True),
    Target("POST /tasks, 64 connections", least=0.4, ratio=True),
    Target("POST /tasks/batch of 10,000", least=90_000),
    Target("a task after its commit, idle cluster, p50", most=2),
    Target("a task after its commit, idle cluster, p99", most=5),
    Target("a task after its due time, p50", most=10),
    Target("a task after its due time, p99", most=100),
    Target("a killed worker's runs, median", most=1),
    Target("a killed worker's runs, worst", most=2),
    Target("idle, statements of all five workers", most=5),
    Target("idle, CPU of one worker", most=0.5),
    Target("ten jobs under way, memory of one worker (PSS)", most=60),
    Target("HTTP p99 beside ten isolated hogs", most=1.5),
    *(Target(f"{name}, p50, {_MOST_ROWS}", most=_GROWTH, ratio=True) for name in _GROWN),
    Target(f"drain, {_MOST_ROWS}", least=1 / _GROWTH, ratio=True),
    Target(f"POST /tasks, 64 connections, {_MOST_ROWS}", least=1 / _GROWTH, ratio=True),
)


def main() -> int:
    """Run them; return 1 if one of them failed, whatever it found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default="", help=f"of {', '.join(_COMMANDS)}")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name] or list(_COMMANDS)
    failed = []
    with tempfile.NamedTemporaryFile() as kept:
        for name in wanted:
            print(f"\n## {name}", flush=True)
            begun = time.monotonic()
            command = _COMMANDS[name][options.quick].split()
            done = subprocess.run(
                [sys.executable, str(_HERE / command[0]), *command[1:]],
                env={**os.environ, "RONIN_FIGURES": kept.name},
                check=False,
            )
            failed += [name] if done.returncode else []
            print(f"{time.monotonic() - begun:.0f} s", flush=True)
        _table([Figure(**orjson.loads(line)) for line in kept])
    if failed:
        print(f"\nnot well: {', '.join(failed)}")
    return int(bool(failed))


def _table(figures: list[Figure]) -> None:
    """Print what was aimed at, and what was found."""
    print("\n| figure | found | aimed at | |\n|---|--:|--:|---|")
    for target in TARGETS:
        for figure in figures:
            if figure.name == target.figure:
                ratio = f", {figure.ratio:.2f} × {figure.of}" if figure.ratio is not None else ""
                found = f"{figure.value:,.4g} {figure.unit}{ratio}"
                mark = "met" if target.met(figure) else "**not met**"
                print(f"| {figure.name} | {found} | {target.words} | {mark} |")


if __name__ == "__main__":
    sys.exit(main())
