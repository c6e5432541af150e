"""Logs over HTTP: what a run has said."""

from uuid import UUID

import falcon

from cluster.database import Pool
from cluster.store import voices
from webapp import bodies
from webapp.runs import find


class RunLog:
    """`/runs/{run_id}/log`: what a run has said, while it runs and afterwards."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, _request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Answer with what is kept of each attempt, oldest first.

        Raises:
            Problem: 404 unknown run.
        """
        said = voices.log(self._pool, run)
        if not said:
            find(self._pool, run)
        bodies.answer(response, said)
