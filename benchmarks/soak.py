"""Let the service work under a steady load for hours, and see whether anything grows.

    python -m benchmarks.soak [--hours 1] [--tasks 20] [--changes 20] [--viewers 3]
    python -m benchmarks.soak --draw FOLDER    # again, from the samples of a run

Starts a PostgreSQL and, by the command of the Procfile, five workers with the sample jobs and some
more; clients post tasks (single and in batches, some fail), change a balance, read pages and watch.
Every few seconds it writes down what processes and database take: `samples.csv` in the folder.
At the end, or on Ctrl-C, it draws pictures beside it, and ends with status 1 if something grew
beyond what `soak_verdict` allows, if an answer was wrong, or if the data contradicts a promise.
"""

import argparse
import csv
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import soak_pictures, soak_verdict
from benchmarks.soak_load import JOBS, Load
from benchmarks.soak_samples import Sample, Sampler, at_distance
from tests.eventually import eventually
from tests.system.facts import database, unsound
from tests.system.gunicorns import gunicorn, job_module, ready, server_of

WORKERS = 5
_FILE = "samples.csv"


def main() -> int:
    """Run the measurement; return 1 if something grew, or was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--hours", type=float, default=1)
    parser.add_argument("--tasks", type=float, default=20, help="a second")
    parser.add_argument("--changes", type=float, default=20, help="of a balance, a second")
    parser.add_argument("--viewers", type=int, default=3, help="of the live page")
    parser.add_argument("--every", type=float, default=5, help="seconds between two samples")
    parser.add_argument("--folder", type=Path, default=Path(".data/soak"), help="for what is found")
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="only read its samples")
    options = parser.parse_args()
    if not soak_pictures.available():
        print(soak_pictures.MISSING, "(the samples are kept, and --draw draws them later)")
    folder: Path = options.draw or options.folder
    wrong: list[str] = []
    if options.draw:
        samples = _read(folder / _FILE)
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does
        folder.mkdir(parents=True, exist_ok=True)
        samples, wrong = _soak(options, folder)
    if soak_pictures.available() and samples:
        print(*soak_pictures.draw(samples, folder), sep="\n")
    return _judge(samples, wrong)


def _soak(options: argparse.Namespace, folder: Path) -> tuple[list[Sample], list[str]]:
    """Return the samples, and what was wrong beside them."""
    samples: list[Sample] = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ronin-soak-")))
        server = stack.enter_context(server_of(home))
        url = stack.enter_context(database(server))
        env = job_module(home, JOBS)
        env["RONIN_JOBS"] = f"jobs,{env['RONIN_JOBS']}"
        instance = stack.enter_context(gunicorn(url, home, env=env))
        ready(instance)
        eventually(lambda: len(instance.get("/workers")) == WORKERS, within=60)
        load = Load(instance.port, options.tasks, options.changes, options.viewers)
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        sampler = Sampler(instance, connection, home, load)
        with suppress(KeyboardInterrupt), load.running():
            _measure(sampler, samples, folder / _FILE, options)
        wrong = [f"{times} × {words}" for words, times in sampler.wrong.items()]
        wrong += [f"verify: {name}: {found[:3]}" for name, found in unsound(url).items()]
        if samples and (replaced := samples[-1]["replaced/workers"]):
            wrong.append(f"{replaced:.0f} workers ended")
        (folder / "service.log").write_text(instance.said())
    return samples, wrong


def _measure(
    sampler: Sampler, samples: list[Sample], file: Path, options: argparse.Namespace
) -> None:
    """Take samples until the time is over, and write each down at once."""
    ends = time.monotonic() + 3600 * options.hours
    with file.open("w", newline="") as output:
        writer: csv.DictWriter[str] | None = None
        for _ in at_distance(options.every):
            sample = sampler.look()
            samples.append(sample)
            if writer is None:
                writer = csv.DictWriter(
                    output, [*sample, *sampler.by_minute], extrasaction="ignore"
                )
                writer.writeheader()
            writer.writerow(sample)
            output.flush()
            _say_progress(sample, 3600 * options.hours, sampler.wrong)
            if time.monotonic() >= ends:
                break
    print()


def _say_progress(sample: Sample, seconds: float, wrong: dict[str, int]) -> None:
    memory = [size for name, size in sample.items() if name.startswith("memory/worker")]
    line = (
        f"{sample['seconds'] / 60:6.1f} of {seconds / 60:.0f} min"
        f"   workers {min(memory, default=0):.1f} to {max(memory, default=0):.1f} MB"
        f"   {sample['connections/all']:.0f} connections"
        f"   run {sample['bytes/run'] / 1e3:.0f} kB"
        f"   {sum(wrong.values())} wrong answers"
    )
    print(f"\r{line}" if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n")
    sys.stdout.flush()


def _read(file: Path) -> list[Sample]:
    with file.open(newline="") as rows:
        return [
            {name: float(figure) for name, figure in row.items() if figure}
            for row in csv.DictReader(rows)
        ]


def _judge(samples: Sequence[Sample], wrong: Sequence[str]) -> int:
    """Print what was found; return 1 if not all of it is well."""
    try:
        found = soak_verdict.findings(samples, WORKERS)
    except ValueError as error:
        print(f"no verdict: {error}")
        return 1
    print("\n| figure | first half | second half | by the hour | may rise by | |")
    print("|---|--:|--:|--:|--:|---|")
    for each in found:
        if each.constant:
            continue
        print(
            f"| {each.name} | {each.first:,.1f} | {each.second:,.1f} | {each.slope:+,.1f}"
            f" | {each.allowed:,.1f} | {'' if each.fine else '**grew**'} |"
        )
    print(f"\n{sum(each.constant for each in found)} more figures did not change at all")
    print("\n| grows by design | rows/s | bytes a row | bounded by |\n|---|--:|--:|---|")
    for name, rate, size in soak_verdict.rates(samples):
        print(f"| {name} | {rate:.2f} | {size:.0f} | {soak_verdict.GROW_BY_DESIGN[name]} |")
    grew = [each.name for each in found if not each.fine]
    print("\nmay rise by what the first half itself varies by, and at least:")
    for what, (_, words) in soak_verdict.FLOORS.items():
        print(f"  {what}: {words}")
    for words in wrong:
        print(f"wrong: {words}")
    print(f"\n{'grew: ' + ', '.join(grew) if grew else 'nothing grew'}; {len(wrong)} things wrong")
    return int(bool(grew or wrong))


if __name__ == "__main__":
    sys.exit(main())
