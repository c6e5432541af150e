"""History: rolled up by the hour, and measured."""

from cluster import Run, job, settings
from jobs.sample import SAMPLE, found, query, steps


@job(name="rollup-runs", schedule="*/15 * * * *", **SAMPLE)
def roll_up(run: Run) -> None:
    """Roll up runs by job, hour and outcome, one hour of the last day at a step."""
    rows = 0
    for step, _ in enumerate(steps(run)):
        # An hour is written anew as a whole, so doing it twice does no harm.
        rows += len(
            query(
                run,
                """
                INSERT INTO run_hourly
                    (job, hour, outcome, runs, total_seconds, longest_seconds)
                SELECT job, date_trunc('hour', finished_at), outcome, count(*),
                    coalesce(sum(extract(epoch FROM finished_at - started_at)), 0),
                    coalesce(max(extract(epoch FROM finished_at - started_at)), 0)
                FROM history
                WHERE finished_at >= date_trunc('hour', now()) - %(back)s * interval '1 hour'
                    AND finished_at < date_trunc('hour', now()) - (%(back)s - 1) * interval '1 hour'
                GROUP BY 1, 2, 3
                ON CONFLICT (job, hour, outcome) DO UPDATE SET runs = excluded.runs,
                    total_seconds = excluded.total_seconds,
                    longest_seconds = excluded.longest_seconds
                RETURNING job
                """,
                {"back": step % 24},
            )
        )
    query(
        run,
        "DELETE FROM run_hourly WHERE hour < now() - make_interval(days => %(d)s) RETURNING 1",
        {"d": settings.load().retention_days},
    )
    found(run, rows=rows)


@job(name="measure-history", schedule="30 2 * * *", timezone="Europe/Berlin", **SAMPLE)
def measure(run: Run) -> None:
    """Measure the days of history: how many there are, and which takes the most room."""
    days: dict[str, int] = {}
    for _ in steps(run):
        days = dict(
            query(
                run,
                """
                SELECT relid::text, pg_total_relation_size(relid) FROM pg_partition_tree('history')
                WHERE isleaf
                """,
            )
        )
    found(run, days=len(days), bytes=sum(days.values()), largest=max(days, key=lambda d: days[d]))
