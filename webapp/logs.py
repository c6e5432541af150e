"""Logs and stacks over HTTP: what a run has said, and where it is."""

from uuid import UUID

import falcon

from cluster.database import Pool
from cluster.store import questions, voices
from webapp import answers, bodies, examples
from webapp.openapi import Answer, describes
from webapp.problems import Problem
from webapp.runs import find


class RunLog:
    """`/runs/{run_id}/log`: what a run has said, while it runs and afterwards."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "runs",
        {200: Answer("The last 64 KiB of each attempt.", list[answers.Said], [examples.SAID])},
        problems=("unknown-run",),
    )
    def on_get(self, _request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Show what a run has said, oldest first, while it runs and afterwards.

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

    @describes(
        "runs",
        {202: Answer("The worker that performs it is asked.", answers.Stack, examples.ASKED)},
        problems=("unknown-run", "run-not-running", "run-remote"),
    )
    def on_post(self, _request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Ask where a run is now.

        The worker that performs it answers within about two seconds.

        Raises:
            Problem: 404 unknown run, 409 nobody performs it, or a remote worker does.
        """
        ask(self._pool, run)
        bodies.answer(response, questions.last(self._pool, run), falcon.HTTP_202)

    @describes(
        "runs",
        {200: Answer("The last question, and its answer.", answers.Stack, examples.STACK)},
        problems=("unknown-run", "not-asked"),
    )
    def on_get(self, _request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Show where a run was when somebody has last asked.

        Raises:
            Problem: 404 unknown run, or nobody has asked.
        """
        found = questions.last(self._pool, run)
        if found is None:
            find(self._pool, run)
            raise Problem(404, "not-asked", "Nobody has asked where the run is: POST does.")
        bodies.answer(response, found)


def ask(pool: Pool, run: UUID) -> None:
    """Ask where a run is.

    Raises:
        Problem: 404 unknown run, 409 nobody performs it, or a remote worker does.
    """
    asked = questions.ask(pool, run)
    if asked is None:
        state = find(pool, run)["state"]
        raise Problem(409, "run-not-running", f"Nobody performs the run now: it is {state}.")
    if not asked:
        detail = "A remote worker performs the run, and these can't be asked where it is."
        raise Problem(409, "run-remote", detail)
