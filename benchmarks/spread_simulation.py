"""Simulate how evenly the spread rule shares, from 5 workers to 10,000, and what that costs.

    python benchmarks/spread_simulation.py start [--workers 5 10 …] [--jobs 0.5 2 20] [--starts 20]
    python benchmarks/spread_simulation.py firings [--workers …]
    python benchmarks/spread_simulation.py change [--workers …]

`start`: all copies start together, and jobs that are due wait for the opening. `firings`: firings
come one by one. `change`: a worker joins late, or dies. What is simulated, and how, is in
`benchmarks/spread_model.py`.
"""

import argparse
import itertools
import random
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.spread_model import NOISES, Cluster, Setting, pids_of
from cluster.worker import POLL_SECONDS


@dataclass(frozen=True)
class Start:
    """What came of one start.

    Attributes:
        loads: sorted.
        took: seconds from the opening until everything was claimed.
        looks: statements from the first start until then.
        peak: statements in the busiest second.
        waited: seconds that a statement waited for a processor at most.
    """

    loads: list[int]
    took: float
    looks: int
    peak: int
    waited: float

    @property
    def apart(self) -> int:
        """By how many jobs the most and the least loaded differ."""
        return self.loads[-1] - self.loads[0]


def start(setting: Setting, workers: int, jobs: int, seed: int) -> Start:
    """Start a cluster whose jobs are all due; return what came of it."""
    chance = random.Random(f"{seed} {workers} {jobs}")
    cluster = Cluster(setting.costing(workers, jobs), chance)
    for pid in pids_of(setting.pids, workers, chance):
        cluster.start(pid, 1 + chance.uniform(0, setting.apart))
    for _ in range(jobs):
        cluster.fire(0.0)
    while cluster.waiting:
        cluster.run(cluster.now + 0.5)
    by_second = (
        sum(cluster.statements[n] for n in range(first, first + 10))
        for first in list(cluster.statements)
    )
    return Start(
        sorted(cluster.loads()),
        max(cluster.claimed_at) - cluster.opens_at,
        cluster.statements.total(),
        max(by_second),
        cluster.waited,
    )


def firings(setting: Setting, workers: int, jobs: int, seed: int, seconds: float = 120) -> str:
    """Let each job fire every two minutes and last one; return how even it stays, and the cost."""
    chance = random.Random(f"{seed} {workers} {jobs}")
    cluster = Cluster(setting.costing(workers, jobs), chance, lasts=60, every=120)
    for pid in pids_of(setting.pids, workers, chance):
        cluster.start(pid, chance.uniform(0, setting.apart))
    for _ in range(jobs):
        cluster.fire(10 + chance.uniform(0, 120))
    cluster.run(10 + 120)  # then as many end as begin
    before, claims = cluster.statements.total(), len(cluster.claimed_at)
    gaps = []
    for second in range(int(seconds)):
        cluster.run(130 + second)
        gaps.append(_gap(cluster))
    looks = (cluster.statements.total() - before) / seconds
    claims = len(cluster.claimed_at) - claims
    return (
        f"| {workers:,} | {jobs:,} | {claims / seconds:.1f} | {statistics.mean(gaps):.1f} "
        f"| {max(gaps)} | {looks:,.0f} | {1000 * cluster.waited:,.0f} ms |"
    )


def _gap(cluster: Cluster) -> int:
    return max(cluster.loads()) - min(cluster.loads())


def change(setting: Setting, workers: int, jobs: int, seed: int, what: str) -> tuple[int, float]:
    """Let a worker join late, or die; return the gap right after, and seconds until it is closed.

    A gap is closed as soon as two differ by two at most: one by chance, one by what just ends.
    """
    chance = random.Random(f"{seed} {workers} {jobs} {what}")
    cluster = Cluster(setting.costing(workers, jobs), chance, lasts=60, every=120)
    first, *pids = pids_of(setting.pids, workers + 1, chance)
    for pid in pids:
        cluster.start(pid, chance.uniform(0, setting.apart))
    for _ in range(jobs):
        cluster.fire(10 + chance.uniform(0, 120))
    cluster.run(190)
    if what == "join":
        cluster.start(first, 190.0)
        cluster.run(191)
    else:
        cluster.kill(cluster.workers[0], found_after=chance.uniform(0, POLL_SECONDS))
        cluster.run(190 + 2 * POLL_SECONDS)
    gap = _gap(cluster)
    while _gap(cluster) > 2 and cluster.now < 190 + 600:
        cluster.run(cluster.now + 0.5)
    return gap, cluster.now - 190


def _starts(options: argparse.Namespace, setting: Setting) -> Iterator[str]:
    yield (
        "| workers | jobs | even | differ by at most | all claimed after | statements a claim "
        "| statements in the busiest second | longest wait for a processor |"
    )
    yield "|--:|--:|--:|--:|--:|--:|--:|--:|"
    for workers, share in itertools.product(options.workers, options.jobs):
        jobs = max(int(workers * share), 1)
        found = [start(setting, workers, jobs, seed) for seed in range(options.starts)]
        even = sum(each.apart <= 1 for each in found)
        yield (
            f"| {workers:,} | {jobs:,} | {even} of {len(found)} "
            f"| {max(each.apart for each in found)} "
            f"| {statistics.mean(each.took for each in found):.2f} s "
            f"| {statistics.mean(each.looks for each in found) / jobs:.1f} "
            f"| {max(each.peak for each in found):,} "
            f"| {1000 * max(each.waited for each in found):,.0f} ms |"
        )


def _firings(options: argparse.Namespace, setting: Setting) -> Iterator[str]:
    yield (
        "| workers | jobs | firings/s | differ by (mean) | at most | statements/s "
        "| longest wait for a processor |"
    )
    yield "|--:|--:|--:|--:|--:|--:|--:|"
    for workers, share in itertools.product(options.workers, options.jobs):
        yield firings(setting, workers, max(int(workers * share), 1), seed=1)


def _changes(options: argparse.Namespace, setting: Setting) -> Iterator[str]:
    yield (
        "| workers | jobs | what | differ by then (mean) | at most | level after (mean) | at most |"
    )
    yield "|--:|--:|---|--:|--:|--:|--:|"
    for workers, share, what in itertools.product(options.workers, options.jobs, ("join", "die")):
        jobs = max(int(workers * share), 1)
        found = [change(setting, workers, jobs, seed, what) for seed in range(options.starts)]
        gaps, seconds = zip(*found, strict=True)
        yield (
            f"| {workers:,} | {jobs:,} | {what} | {statistics.mean(gaps):.1f} | {max(gaps)} "
            f"| {statistics.mean(seconds):.1f} s | {max(seconds):.1f} s |"
        )


def main() -> int:
    """Print a table of what was asked for; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    tables = {"start": _starts, "firings": _firings, "change": _changes}
    parser.add_argument("table", choices=tables)
    parser.add_argument("--workers", type=int, nargs="+", default=[5, 10, 50, 100])
    parser.add_argument("--jobs", type=float, nargs="+", default=[2.0], help="for each worker")
    parser.add_argument("--starts", type=int, default=20, help="of each size")
    parser.add_argument("--noise", choices=NOISES, default="quiet")
    parser.add_argument("--pids", default="consecutive", help="or random, hosts, containers")
    parser.add_argument("--apart", type=float, default=Setting.apart)
    parser.add_argument("--cores", type=int, default=None)
    parser.add_argument("--cost", type=float, default=None, help="seconds of a look")
    parser.add_argument("--join", type=float, default=Setting.join, help="seconds, one by one")
    parser.add_argument("--width", type=float, default=Setting.width)
    parser.add_argument("--part", type=float, default=None)
    parser.add_argument("--opening-slots", type=int, default=None)
    options = parser.parse_args()
    setting = Setting(
        NOISES[options.noise],
        options.pids,
        options.apart,
        options.cores,
        options.cost,
        options.join,
        options.width,
        options.part,
        options.opening_slots,
    )
    for line in tables[options.table](options, setting):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
