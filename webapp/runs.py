"""Runs over HTTP: any run, whether a schedule made it or somebody asked for it."""

from uuid import UUID

import falcon

from cluster.database import Pool
from cluster.nudge import nudge
from cluster.store import tasks, views
from webapp import answers, bodies, examples, waiting
from webapp.access import actor
from webapp.openapi import Answer, describes
from webapp.problems import Problem


class Run:
    """`/runs/{run_id}`: where a run stands."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "runs",
        {200: Answer("The run.", answers.Run, examples.RUN)},
        problems=("unknown-run",),
    )
    def on_get(self, _request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Show where a run stands.

        Raises:
            Problem: 404 unknown run.
        """
        bodies.answer(response, find(self._pool, run))


class RunCancel:
    """`POST /runs/{run_id}/cancel`: stop a run wherever it is."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "runs",
        {
            200: Answer("It waited, and will never run.", answers.Run, examples.RUN_WAITING),
            202: Answer("It runs, and was told to stop.", answers.Run, examples.RUN_TOLD),
        },
        problems=("unknown-run", "run-over"),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Cancel a run, wherever it is.

        A firing that waits gives way to the next one.

        Raises:
            Problem: 404 unknown run, 409 it is over.
        """
        row = cancel(self._pool, run, actor(request))
        running = row["state"] == "running"
        bodies.answer(response, row, falcon.HTTP_202 if running else falcon.HTTP_200)


def cancel(pool: Pool, run: UUID, by: str) -> views.Row:
    """Stop a run wherever it is, and return where it stands then.

    Raises:
        Problem: 404 unknown run, 409 it is over.
    """
    done = tasks.cancel(pool, run, firings=True, by=by)
    row = find(pool, run)
    if not done:
        raise Problem(409, "run-over", f"The run is over: {row['outcome']}.")
    nudge.set()
    return row


def find(pool: Pool, run: UUID) -> views.Row:
    """Return where a run stands.

    Raises:
        Problem: 404 unknown run.
    """
    row = views.run(pool, run)
    if row is None:
        raise Problem(404, "unknown-run", f"There is no run {run}.")
    return {**row, "why": waiting.of_run(pool, run, waits_still=row["state"] == "waiting")}
