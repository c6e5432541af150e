"""Health: whether the process serves, whether it can work, and who holds a lease."""

import falcon
import psycopg

from cluster.database import Pool
from cluster.store import views
from webapp import bodies


class Health:
    """`GET /health`: 200 as long as the process serves."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer without asking anybody."""
        bodies.answer(response, {"status": "ok"})


class Ready:
    """`GET /health/ready`: 200, or 503 with what is missing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Ask the database."""
        try:
            views.reachable(self._pool)
        except psycopg.Error as error:
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            body = {"status": "not ready", "missing": {"database": reason}}
            bodies.answer(response, body, falcon.HTTP_503)
        else:
            bodies.answer(response, {"status": "ready"})


class Workers:
    """`GET /workers`: who holds a lease, and how many runs each has under way."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the list."""
        bodies.answer(response, views.workers(self._pool))
