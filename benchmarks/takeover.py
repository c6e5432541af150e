"""Kill workers with -9 again and again, and time until their jobs are under way on others.

    python benchmarks/takeover.py [--kills 20]

The time is from the signal to the successor's `started_at`, both by this machine's clock, which
an embedded server shares.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.figures import Figure, say
from tests.eventually import eventually
from tests.system.facts import database, rows, shares
from tests.system.gunicorns import Instance, gunicorn, server_of


def main() -> None:
    """Run the kills."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    took: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="ronin-bench-") as folder,
        server_of(Path(folder)) as server,
        database(server) as url,
        gunicorn(url, Path(folder), env={"RONIN_SAMPLE_SECONDS": "3600"}) as instance,
    ):
        shares(url)
        for _ in range(options.kills):
            took += _kill(url, instance)
    note = f"{options.kills} kills, {len(took)} runs"
    say(Figure("a killed worker's runs, median", median(took), "s", note=note))
    say(Figure("a killed worker's runs, worst", max(took), "s", note=note))


def _kill(url: str, instance: Instance) -> list[float]:
    """Kill a worker that holds jobs; return the seconds until each was under way again."""
    rows(url, "UPDATE run SET crashes = 0")  # so that none is given up
    held = rows(url, "SELECT worker, array_agg(job) FROM run WHERE token IS NOT NULL GROUP BY 1")
    worker, jobs = random.choice(held)
    killed = time.time()
    instance.workers()[worker].kill()
    again = "SELECT started_at FROM run WHERE job = ANY (%(jobs)s) AND worker <> %(worker)s"

    def all_again() -> list[float] | None:
        started = [row[0].timestamp() for row in rows(url, again, jobs=jobs, worker=worker)]
        return started if len(started) == len(jobs) else None

    return [started - killed for started in eventually(all_again, within=60) or []]


if __name__ == "__main__":
    main()
