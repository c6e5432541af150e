"""The days of the history, as partitions."""

from datetime import UTC, datetime, timedelta

from cluster.database import Pool
from tests.integration.builders import query, value


def days(pool: Pool) -> list[str]:
    """Return the names of the history's days, without a lock that would be in somebody's way."""
    rows = query(
        pool,
        "SELECT relname::text FROM pg_class JOIN pg_inherits ON oid = inhrelid"
        " WHERE inhparent = 'history'::regclass AND relname <> 'history_default' ORDER BY 1",
    )
    return [row[0] for row in rows]


def day(pool: Pool, ahead: int) -> str:
    """Return the name of a day counted from today."""
    name: str = value(
        pool,
        "SELECT 'history_' || to_char((now() AT TIME ZONE 'UTC')::date + %s, 'YYYYMMDD')",
        ahead,
    )
    return name


def make_day(pool: Pool, ahead: int) -> None:
    """Make a day's partition."""
    with pool.connection() as connection:
        start = datetime.now(UTC).date() + timedelta(days=ahead)
        end = start + timedelta(days=1)
        connection.execute(
            f"CREATE TABLE {day(pool, ahead)} PARTITION OF history"
            f" FOR VALUES FROM ('{start} 00:00Z') TO ('{end} 00:00Z')".encode()
        )
