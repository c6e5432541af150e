"""What the sample jobs share: settings, a pace that lasts, and a place for what they find."""

import time
from collections.abc import Iterator
from typing import Any, LiteralString

import orjson
import psycopg

from cluster import Run, settings

SAMPLE: dict[str, Any] = {"timeout": "25h", "max_retries": 10, "at_once": True}
"""Due as soon as they are first seen. The longest RONIN_SAMPLE_SECONDS is a day; and a worker
that dies takes all its runs along, so a death says little about one that lasts so long."""

_STEP_SECONDS = 2.0
_PATIENCE = 30
"""Tries. The rests between them are about a minute; each may wait three seconds for a connection
as well, or five for its answer."""


def steps(run: Run, waited: float = 0.0) -> Iterator[float]:
    """Yield the seconds waited so far, every two seconds, until RONIN_SAMPLE_SECONDS are over.

    Small steps with a rest between them: a sample job must not slow HTTP down. Tells progress.

    Args:
        run: of the job.
        waited: seconds that an attempt before this one has waited.
    """
    total = settings.load().sample_seconds
    begun = time.monotonic() - waited
    while True:
        yield time.monotonic() - begun
        left = total - (time.monotonic() - begun)
        run.progress(1 - left / total if left > 0 else 1.0)
        if left <= 0:
            return
        run.wait(min(_STEP_SECONDS, left))


def keep(run: Run, value: object) -> None:
    """Keep a checkpoint if the database is there; the next step keeps another one."""
    try:
        run.checkpoint(value)
    except psycopg.OperationalError as error:
        run.log.warning("a checkpoint is not kept", reason=str(error).split("\n")[0])


def query(
    run: Run, text: LiteralString, parameters: dict[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """Return the rows of one statement, committed on its own.

    A database that is away is waited for: what a job has done so far is not lost for a restart.
    Every statement of the sample jobs may be done twice.
    """
    for patience in range(_PATIENCE):
        try:
            with run.connection() as connection:
                return connection.execute(text, parameters).fetchall()
        except psycopg.errors.QueryCanceled:
            raise  # the database is there, and would need too long once more
        except psycopg.OperationalError as error:
            run.log.warning("waiting for the database", reason=str(error).split("\n")[0])
            run.wait(min(0.5 * (patience + 1), _STEP_SECONDS))
    raise TimeoutError("the database was away for too long")


def found(run: Run, **body: Any) -> None:
    """Keep what a job found, in place of what it found before, and log it."""
    query(
        run,
        """
        INSERT INTO finding (job, body) VALUES (%(job)s, %(body)s)
        ON CONFLICT (job) DO UPDATE SET body = excluded.body, found_at = now() RETURNING job
        """,
        {"job": run.job, "body": orjson.dumps(body).decode()},
    )
    run.log.info("found", **body)
