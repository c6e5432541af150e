"""Guard: lets a job's own transaction commit only while its attempt is the current one."""

from typing import Any

from psycopg import Cursor
from psycopg.rows import tuple_row

from cluster.ending import ending_of
from cluster.job import Catalogue, Job
from cluster.perform import Result
from cluster.run import Claim, Connection, Standing
from cluster.store import runs


class TokenGuard:
    """Asks for the attempt's token under the row's lock; see `cluster.run.Guard`.

    Args:
        catalogue: for what follows a run's end.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def hold(self, connection: Connection, claim: Claim) -> Standing:
        """Say how the attempt stands, and keep it so until the transaction ends.

        A take-over or a cancel at the same moment: whoever locks the row first wins; we read it
        anew once we have it, and the other waits for our commit. In a transaction that reads
        from one snapshot throughout, the change is a serialization failure, and so no commit.
        """
        row = (
            _rows_of(connection)
            .execute(
                """
            SELECT start_by IS NOT DISTINCT FROM '-infinity' FROM run
            WHERE id = %s AND token = %s FOR NO KEY UPDATE
            """,
                (claim.id, claim.token),
            )
            .fetchone()
        )
        if row is None:
            return Standing.LOST
        return Standing.CANCELLED if row[0] else Standing.CURRENT

    def keep(self, connection: Connection, claim: Claim, checkpoint: str) -> None:
        """Write a checkpoint into the row that `hold` has locked."""
        query = "UPDATE run SET checkpoint = %s WHERE id = %s"
        connection.execute(query, (checkpoint, claim.id))

    def finish(self, connection: Connection, claim: Claim, value: str | None) -> None:
        """End the run as completed in the row that `hold` has locked, and plan what follows.

        By the schedule as it is now: who changes it at this moment waits for our lock on the
        row of the job, and then sees the run that is planned here.
        """
        row = (
            _rows_of(connection)
            .execute(
                "SELECT schedule, clock_timestamp() FROM job WHERE name = %s FOR SHARE",
                (claim.job,),
            )
            .fetchone()
        )
        job = self._catalogue.get(claim.job)
        assert row  # noqa: S101 - rows of jobs are never deleted
        assert isinstance(job, Job)  # noqa: S101 - it is being performed here
        schedule, now = row
        ending = ending_of(
            claim._replace(schedule=schedule), job, Result("completed", value=value), now
        )
        runs.finish_in(connection, ending)


def _rows_of(connection: Connection) -> Cursor[tuple[Any, ...]]:
    """Return a cursor of plain rows, whatever the job has set its connection to."""
    return connection.cursor(row_factory=tuple_row)
