"""Measurements of the service's own database and workers."""

import time
from statistics import quantiles

from cluster import Run, job
from jobs.sample import SAMPLE, found, query, steps


@job(name="measure-bloat", schedule="@hourly", **SAMPLE)
def bloat(run: Run) -> None:
    """Measure sizes and dead rows of the tables that change most."""
    largest: dict[str, dict[str, int]] = {}
    for _ in steps(run):
        for table, size, live, dead in query(
            run,
            """
            SELECT relname, pg_total_relation_size(relid), n_live_tup, n_dead_tup
            FROM pg_stat_user_tables
            WHERE relname IN ('users', 'ledger', 'idempotency', 'run', 'worker', 'job')
            """,
        ):
            known = largest.setdefault(table, {"bytes": 0, "live": 0, "dead": 0})
            for key, value in (("bytes", size), ("live", live), ("dead", dead)):
                known[key] = max(known[key], value)
    found(run, tables=largest)


@job(name="measure-latency", every="10m", **SAMPLE)
def latency(run: Run) -> None:
    """Measure the round trip to the database, as a job sees it."""
    took = []
    for _ in steps(run):
        begun = time.perf_counter()
        query(run, "SELECT 1")
        took.append((time.perf_counter() - begun) * 1000)
    centiles = quantiles([*took, took[-1]], n=100)
    found(run, samples=len(took), p50_ms=round(centiles[49], 3), worst_ms=round(max(took), 3))


@job(name="measure-spread", every="12m", **SAMPLE)
def spread(run: Run) -> None:
    """Measure how evenly the workers share: the difference between most and fewest runs held.

    Remote workers take what they ask for, and who is leaving takes nothing more: neither counts.
    """
    differences = []
    for _ in steps(run):
        loads = query(
            run,
            """
            SELECT count(r.id) FROM worker w LEFT JOIN run r ON r.worker_id = w.id
            WHERE w.lease_until > now() AND NOT w.remote AND NOT w.leaving GROUP BY w.id
            """,
        )
        counts = [row[0] for row in loads]
        differences.append(max(counts, default=0) - min(counts, default=0))
    found(run, samples=len(differences), worst=max(differences), last=differences[-1])
