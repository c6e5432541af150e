"""A limit under the claims of ten clusters: fifty claimers, each with a connection of its own."""

import threading
from concurrent.futures import ThreadPoolExecutor

from cluster import database
from cluster.ending import ending_of
from cluster.job import Job
from cluster.perform import Result
from cluster.process import Identity
from cluster.store import jobs, leases, looks, runs, tasks
from tests.system.facts import rows

CLAIMERS, TASKS, LIMIT = 50, 400, 2


def nothing() -> None:
    """Do nothing."""


KIND = Job(name="limited", function=nothing, spread=0, max_running=LIMIT)


def test_fifty_claimers_never_have_more_than_two_under_way(url: str) -> None:
    with database.pool(url, "ronin test", size=2) as pool:
        jobs.declare(pool, [KIND])
        asked = [{"kind": "limited", "name": str(n)} for n in range(TASKS)]
        tasks.enqueue_many(pool, asked)
        rows(url, "UPDATE opening SET opens_at = '-infinity'")
    barrier = threading.Barrier(CLAIMERS)
    with ThreadPoolExecutor(CLAIMERS) as executor:
        claimers = [executor.submit(claim_all, url, n, barrier) for n in range(CLAIMERS)]
    done = [claimer.result() for claimer in claimers]
    assert sum(done) == TASKS
    assert sum(count > 0 for count in done) > LIMIT  # they took turns
    assert most_at_once(url) == LIMIT


def claim_all(url: str, number: int, barrier: threading.Barrier) -> int:
    """Claim and finish until nothing is left; return how many it was."""
    done = 0
    with database.pool(url, "ronin engine", size=1, session=database.ONE_PLAN) as pool:
        process = Identity(None, number, 1)
        worker = leases.register(pool, f"claimer:{number}", process, ["limited"], 600)
        barrier.wait(60)
        limited: list[str] = ["limited"]
        while rows(url, "SELECT 1 FROM run LIMIT 1"):
            look = looks.claim(pool, looks.Ask(worker, None, ["limited"], 0, 5, 0.0, limited))
            limited = look.limited
            ends = [ending_of(c, KIND, Result("completed"), look.now) for c in look.claims]
            if ends:
                runs.finish(pool, ends)
            done += len(ends)
    return done


def most_at_once(url: str) -> int:
    """Return how many attempts were under way at one moment at the most, by the history."""
    found = rows(
        url,
        """
        SELECT max(at_once) FROM (
            SELECT sum(change) OVER (ORDER BY at, change) AS at_once FROM (
                SELECT started_at AS at, 1 AS change FROM history
                UNION ALL SELECT finished_at, -1 FROM history) changes) sums
        """,
    )
    return int(found[0][0])
