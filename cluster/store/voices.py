"""Voices: what attempts under way say and where they are, written down and read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from cluster.database import Pool
from cluster.run import Claim
from cluster.voice import Chunk

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """What is to be written of an attempt.

    Attributes:
        chunks: to be added.
        first: the number of the oldest chunk that is to be kept.
    """

    claim: Claim
    chunks: Sequence[Chunk]
    first: int


def write(pool: Pool, said: Sequence[Said]) -> None:
    """Add chunks, and delete those that are not among the last any more.

    Nobody else writes of these attempts. Dies before the answer is there: the same chunks come
    again, and change nothing.
    """
    query = """
        WITH added AS (
            INSERT INTO log_chunk (run_id, attempt, token, number, text)
            SELECT * FROM unnest(%(runs)s::uuid[], %(attempts)s::integer[], %(tokens)s::uuid[],
                %(numbers)s::integer[], %(texts)s::text[])
            ON CONFLICT DO NOTHING
        )
        DELETE FROM log_chunk c
        USING unnest(%(old_runs)s::uuid[], %(old_attempts)s::integer[], %(old_tokens)s::uuid[],
            %(firsts)s::integer[]) AS o (run_id, attempt, token, first)
        WHERE c.run_id = o.run_id AND c.attempt = o.attempt AND c.token = o.token
            AND c.number < o.first
        """
    new = [(each.claim, chunk) for each in said for chunk in each.chunks]
    old = [each for each in said if each.first]
    parameters = {
        "runs": [claim.id for claim, _ in new],
        "attempts": [claim.attempt for claim, _ in new],
        "tokens": [claim.token for claim, _ in new],
        "numbers": [chunk.number for _, chunk in new],
        "texts": [chunk.text for _, chunk in new],
        "old_runs": [each.claim.id for each in old],
        "old_attempts": [each.claim.attempt for each in old],
        "old_tokens": [each.claim.token for each in old],
        "firsts": [each.first for each in old],
    }
    with pool.connection() as connection:
        connection.execute(query, parameters)


def log(pool: Pool, run: UUID) -> list[Row]:
    """Return what is kept of all attempts of a run, oldest first."""
    query = """
        SELECT attempt, at, text FROM log_chunk WHERE run_id = %s ORDER BY attempt, token, number
        """
    with pool.connection() as connection:
        return connection.cursor(row_factory=dict_row).execute(query, (run,)).fetchall()
