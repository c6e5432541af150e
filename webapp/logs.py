"""Logs and stacks over HTTP: what a run has said, and where it is."""

from uuid import UUID

import falcon

from cluster.database import Pool
from cluster.store import questions, voices
from webapp import bodies
from webapp.problems import Problem
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


class RunStack:
    """`/runs/{run_id}/stack`: where a run is now."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_post(self, _request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Ask, and answer 202: the worker that performs it says so within two seconds.

        Raises:
            Problem: 404 unknown run, 409 nobody performs it, or a remote worker does.
        """
        asked = questions.ask(self._pool, run)
        if asked is None:
            state = find(self._pool, run)["state"]
            raise Problem(409, "run-not-running", f"Nobody performs the run now: it is {state}.")
        if not asked:
            detail = "A remote worker performs the run, and these can't be asked where it is."
            raise Problem(409, "run-remote", detail)
        bodies.answer(response, questions.last(self._pool, run), falcon.HTTP_202)

    def on_get(self, _request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Answer with the last question and its answer; the stack is null until that is there.

        Raises:
            Problem: 404 unknown run, or nobody has asked.
        """
        found = questions.last(self._pool, run)
        if found is None:
            find(self._pool, run)
            raise Problem(404, "not-asked", "Nobody has asked where the run is: POST does.")
        bodies.answer(response, found)
