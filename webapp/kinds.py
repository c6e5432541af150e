"""Kinds of tasks: one with its arguments, paused and resumed, and all its failed tasks retried."""

import threading
from typing import Any

import falcon
from pydantic import BaseModel, ConfigDict

from cluster.database import Pool
from cluster.nudge import nudge
from cluster.store import jobs, retries, tasks
from webapp import answers, bodies, examples
from webapp.access import actor
from webapp.openapi import Answer, describes
from webapp.problems import Problem
from webapp.tasks import wake


class KindChange(BaseModel):
    """The body of a change: `paused`."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    paused: bool
    """Whether its tasks wait until it is resumed; those under way go on."""


class Kind:
    """`/kinds/{name}`: a kind of tasks, and what an operator may change of it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "tasks",
        {200: Answer("The kind.", answers.Kind, examples.KIND)},
        problems=("unknown-kind",),
    )
    def on_get(self, _request: falcon.Request, response: falcon.Response, kind: str) -> None:
        """Show a kind of tasks, and the arguments that it takes.

        Raises:
            Problem: 404 unknown kind.
        """
        bodies.answer(response, find(self._pool, kind))

    @describes(
        "tasks",
        {200: Answer("The kind as it is now.", answers.Kind, examples.KIND)},
        problems=("invalid-json", "unknown-kind", "invalid-field"),
        body=KindChange,
        examples={"Pause": {"paused": True}, "Resume": {"paused": False}},
    )
    def on_patch(self, request: falcon.Request, response: falcon.Response, kind: str) -> None:
        """Pause or resume a kind of tasks.

        Tasks of a paused kind wait, and those that run go on.

        Raises:
            Problem: 404 unknown kind, 422 a field is wrong.
        """
        paused = bodies.read(request, KindChange).paused
        bodies.answer(response, pause(self._pool, kind, paused=paused, by=actor(request)))


class KindRetry:
    """`POST /kinds/{name}/retry`: try all again that have ended in an error."""

    def __init__(self, pool: Pool, posted: threading.Condition) -> None:
        self._pool = pool
        self._posted = posted

    @describes(
        "tasks",
        {202: Answer("They wait again.", answers.Retried, examples.RETRIED)},
        problems=("unknown-kind",),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, kind: str) -> None:
        """Try all tasks of a kind again that have ended in an error by now.

        Raises:
            Problem: 404 unknown kind.
        """
        done = retry_all(self._pool, kind, self._posted, actor(request))
        body = {"retried": done.count, "more": done.more}
        bodies.answer(response, body, falcon.HTTP_202)


def pause(pool: Pool, name: str, *, paused: bool, by: str) -> dict[str, Any]:
    """Pause or resume a kind, and return it.

    Raises:
        Problem: 404 unknown kind.
    """
    find(pool, name)
    jobs.change(pool, name, {"paused": paused}, by)
    nudge.set()
    return find(pool, name)


def retry_all(pool: Pool, name: str, posted: threading.Condition, by: str) -> retries.Retried:
    """Put all tasks of a kind back that have ended in an error.

    Raises:
        Problem: 404 unknown kind.
    """
    find(pool, name)
    done = retries.retry_all(pool, name, by)
    if done.count:
        wake(posted)
    return done


def find(pool: Pool, name: str) -> dict[str, Any]:
    """Return a kind.

    Raises:
        Problem: 404 there is none.
    """
    rows = [] if "\x00" in name else tasks.kinds(pool, name)
    if not rows:
        raise Problem(404, "unknown-kind", f"There is no kind of tasks {name!r}.")
    return rows[0]
