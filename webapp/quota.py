"""Quota: how many tasks one client may post in a minute, over all workers together."""

import math
from datetime import timedelta

import falcon

from cluster.database import Pool
from webapp.access import LOCAL
from webapp.problems import Problem

_MINUTE = timedelta(minutes=1)
# The "virtual scheduling" of ITU-T I.371: each task takes its share of a minute, and whoever is a
# minute ahead has to wait. Two at once: the second waits for the row, and looks at it again.
_TAKE = """
    INSERT INTO quota AS q (client, until) VALUES (%(client)s, clock_timestamp() + %(share)s)
    ON CONFLICT (client) DO UPDATE SET until = greatest(q.until, clock_timestamp()) + %(share)s
    WHERE greatest(q.until, clock_timestamp()) + %(share)s <= clock_timestamp() + %(minute)s
    RETURNING until
    """
_WAIT = """
    SELECT extract(epoch FROM until + %(share)s - %(minute)s - clock_timestamp())::float8
    FROM quota WHERE client = %(client)s
    """


class Quota:
    """Counts what clients post.

    A client is whoever a token names; where there are no tokens, the address of the connection.

    Args:
        pool: for its statements.
        per_minute: tasks of one client; 0 is any number, and then nothing is counted.
    """

    def __init__(self, pool: Pool, per_minute: int) -> None:
        self._pool = pool
        self._per_minute = per_minute

    def take(self, request: falcon.Request, tasks: int) -> None:
        """Count tasks that a request is about to make.

        Raises:
            Problem: 429 they are more than the client may post now.
        """
        if not self._per_minute or not tasks:
            return
        if tasks > self._per_minute:
            raise self._refusal()
        asking = request.context.actor
        client = request.remote_addr if asking is LOCAL else f"token:{asking.name}"
        share = tasks * _MINUTE / self._per_minute
        named = {"client": client, "share": share, "minute": _MINUTE}
        with self._pool.connection() as connection:
            if connection.execute(_TAKE, named).fetchone() is None:
                row = connection.execute(_WAIT, named).fetchone()
                raise self._refusal(row[0] if row else 1)

    def _refusal(self, seconds: float | None = None) -> Problem:
        detail = f"A client may post {self._per_minute} tasks in a minute. Nothing was stored."
        problem = Problem(429, "too-many-tasks", detail)
        if seconds is not None:
            problem.headers = {"Retry-After": str(max(math.ceil(seconds), 1))}
        return problem
