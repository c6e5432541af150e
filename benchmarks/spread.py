"""Start fresh clusters again and again, and count how evenly they share ten jobs.

    python benchmarks/spread.py [--starts 20] [--instances 1] [--workers 5]

Each start has a database of its own on one embedded server. `--instances 5 --workers 1` starts
five separate gunicorns at once. Exit status 1 if two workers ever differ by more than one job.
"""

import argparse
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.system.facts import database, rows, shares
from tests.system.gunicorns import gunicorn, server_of


def main() -> int:
    """Run the starts; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--instances", type=int, default=1, help="gunicorns started at once")
    parser.add_argument("--workers", type=int, default=5, help="workers of each")
    options = parser.parse_args()
    seen: Counter[tuple[int, ...]] = Counter()
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
    ):
        for start in range(1, options.starts + 1):
            held, apart = _start(server, Path(folder), options.instances, options.workers)
            seen[tuple(held)] += 1
            share = "/".join(map(str, held))
            print(f"start {start:>3}: {share}   registered within {apart:.2f} s", flush=True)
    for share_of, count in seen.most_common():
        print(f"{count:>4} × {'/'.join(map(str, share_of))}")
    return int(any(max(share_of) - min(share_of) > 1 for share_of in seen))


def _start(server: str, folder: Path, instances: int, workers: int) -> tuple[list[int], float]:
    """Start a fresh cluster; return how many jobs each worker holds, and the spread of starts."""
    env = {"WEB_CONCURRENCY": str(workers)}
    with database(server) as url, ExitStack() as stack:
        for _ in range(instances):
            stack.enter_context(gunicorn(url, folder, env=env))
        held = shares(url)
        between = "SELECT extract(epoch FROM max(started_at) - min(started_at))::float8 FROM worker"
        return held, rows(url, between)[0][0]


if __name__ == "__main__":
    sys.exit(main())
