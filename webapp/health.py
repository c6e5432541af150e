"""Health: whether the process serves, whether it can work, and who holds a lease."""

import falcon
import psycopg

from cluster.database import Pool
from cluster.store import views
from webapp import answers, bodies, examples
from webapp.openapi import Answer, describes


class Health:
    """`GET /health`: 200 as long as the process serves."""

    @describes(
        "service",
        {200: Answer("It serves.", answers.Health, {"status": "ok"})},
        database=False,
    )
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Say that the process serves.

        Asks nobody, the database neither.
        """
        bodies.answer(response, {"status": "ok"})


class Ready:
    """`GET /health/ready`: 200, or 503 with what is missing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "service",
        {
            200: Answer("It can work.", answers.Ready, {"status": "ready"}),
            503: Answer("It can't work.", answers.NotReady, examples.NOT_READY),
        },
        database=False,
    )
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Say whether the process can work.

        It asks the database, and says what is missing.
        """
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

    @describes("service", {200: Answer("All of them.", list[answers.Worker], [examples.WORKER])})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """List who holds a lease, and how many runs each has under way."""
        bodies.answer(response, views.workers(self._pool))
