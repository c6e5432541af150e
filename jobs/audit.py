"""Audits: what must always hold, looked at again and again for two minutes."""

import hashlib

from cluster import Run, job
from jobs.sample import SAMPLE, found, keep, query, steps


@job(name="audit-ledger", schedule="*/5 * * * *", **SAMPLE)
def ledger(run: Run) -> None:
    """Check that the postings of every user add up to the balance."""
    wrong = looks = 0
    for _ in steps(run):
        # One statement, so one snapshot: postings and balances of the same moment.
        rows = query(
            run,
            """
            SELECT u.id FROM users u
            LEFT JOIN (SELECT user_id, sum(amount) AS total FROM ledger GROUP BY user_id) l
                ON l.user_id = u.id
            WHERE u.balance <> coalesce(l.total, 0)
            """,
        )
        looks += 1
        wrong += len(rows)
        if rows:
            run.log.error("postings do not add up", users=[row[0] for row in rows])
    found(run, looks=looks, wrong=wrong)


@job(name="audit-overlap", schedule="*/10 * * * *", **SAMPLE)
def overlap(run: Run) -> None:
    """Check that no two runs of a job overlapped during the last hour."""
    overlaps = 0
    for _ in steps(run):
        rows = query(
            run,
            """
            SELECT job, run_id, started_at FROM (
                SELECT job, run_id, started_at,
                    lag(finished_at) OVER (PARTITION BY job ORDER BY fence) AS before
                FROM history
                WHERE finished_at > now() - interval '1 hour' AND started_at IS NOT NULL
                    AND outcome <> 'fenced'
                    AND job IN (SELECT name FROM job WHERE schedule IS NOT NULL)) h
            WHERE started_at < before
            """,
        )
        overlaps = max(overlaps, len(rows))
    found(run, overlaps=overlaps)


@job(name="audit-lateness", every="6m", **SAMPLE)
def lateness(run: Run) -> None:
    """Look for jobs that are due and not under way; note the latest of them."""
    worst, worst_job = 0.0, None
    for _ in steps(run):
        for name, late in query(
            run,
            """
            SELECT r.job, extract(epoch FROM now() - greatest(r.not_before, o.opens_at))::float8
            FROM run r JOIN job j ON j.name = r.job CROSS JOIN opening o
            WHERE r.scheduled AND r.token IS NULL AND NOT j.paused
                AND greatest(r.not_before, o.opens_at) < now() - interval '2 s'
            ORDER BY 2 DESC LIMIT 1
            """,
        ):
            run.log.warning("job is late", late_job=name, seconds=round(late, 1))
            if late > worst:
                worst, worst_job = late, name
    found(run, latest_seconds=round(worst, 3), latest_job=worst_job)


@job(name="digest-ledger", schedule="7 * * * *", **SAMPLE)
def digest(run: Run) -> None:
    """Chain the postings into one SHA-256, a thousand at a step, as a seal over the ledger."""
    done = run.checkpoint.value or {"seal": "", "last": 0, "postings": 0, "waited": 0.0}
    for waited in steps(run, done["waited"]):
        rows = query(
            run,
            # What was posted a moment ago may have a neighbour that is not committed yet.
            "SELECT id, user_id, amount, balance FROM ledger WHERE id > %(last)s"
            " AND posted_at < now() - interval '1 minute' ORDER BY id LIMIT 1000",
            {"last": done["last"]},
        )
        for row in rows:
            done["seal"] = hashlib.sha256(f"{done['seal']}{row!r}".encode()).hexdigest()
        done["postings"] += len(rows)
        done["last"] = rows[-1][0] if rows else done["last"]
        keep(run, {**done, "waited": waited})
    found(run, postings=done["postings"], last_posting=done["last"], sha256=done["seal"])
