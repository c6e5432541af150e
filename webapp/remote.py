"""Remote workers: tasks claimed, kept and ended over HTTP alone, each word with its token."""

import select
import socket
import threading
import time
from typing import Annotated, Any, Literal
from uuid import UUID

import falcon
import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from cluster import lending
from cluster.database import Pool
from cluster.job import Catalogue
from cluster.nudge import leaving, nudge
from cluster.perform import Result, storable
from cluster.run import Claim
from cluster.values import MOST_BYTES
from webapp import answers, bodies, examples, new_tasks, parameters, tasks
from webapp.openapi import Answer, describes
from webapp.problems import Problem

_WAITING = 2
"""Claims that wait in a process at once: each holds one of its threads."""
_LOOK_SECONDS = 0.5
"""Between two looks of a claim that waits; a task posted to this process wakes it at once."""
_YEAR = 366 * 86400


def _uuid(value: object) -> object:
    token = parameters.uuid(value) if isinstance(value, str) else None
    if token is None:
        raise ValueError("a UUID as the claim gave it")
    return token


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class ClaimRequest(_Strict):
    """Who claims, and what it can perform."""

    worker: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,100}$")]
    """Its name, for people."""
    kinds: list[Annotated[str, StringConstraints(max_length=100)]] = Field(
        min_length=1, max_length=100
    )
    """What it can perform."""
    limit: int = Field(1, ge=1, le=100)
    """Tasks at most."""
    wait_seconds: float = Field(0, ge=0, le=20)
    """How long the answer may wait for work."""


class Word(_Strict):
    """What every word about an attempt carries: its token."""

    token: Annotated[UUID, BeforeValidator(_uuid)]
    """As the claim gave it."""


class Heartbeat(Word):
    """Alive, and how far; of two words the one with the larger sequence is the later."""

    progress: float | None = Field(None, ge=0, le=1)
    """How far it is, 0 to 1; null: as before."""
    sequence: int | None = Field(None, ge=1, le=2**63 - 1)
    """Grows with each word of an attempt; one that was overtaken changes nothing."""


class Completion(Word):
    """The task is done."""

    result: Any = None
    """Any JSON up to 64 KiB."""


class Failure(Word):
    """The task is not done."""

    error: Annotated[str, StringConstraints(min_length=1, max_length=8192)]
    """The reason."""
    traceback: Annotated[str, StringConstraints(max_length=8192)] | None = None
    """Where it happened."""
    retry_in: float | None = Field(None, ge=0, le=_YEAR)
    """Seconds after which it is tried again; null: as its kind says."""
    final: bool = False
    """Whether it is given up."""
    outcome: Literal["failed", "timed_out", "crashed"] = "failed"
    """How it ended."""


class TaskClaims:
    """`POST /tasks/claim`: work for a remote worker, at once or within `wait_seconds`."""

    def __init__(
        self, pool: Pool, catalogue: Catalogue, posted: threading.Condition, lease_seconds: float
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._posted = posted
        self._lease = lease_seconds
        self._waiting = threading.BoundedSemaphore(_WAITING)

    @describes(
        "remote workers",
        {
            200: Answer(
                "What was claimed, perhaps nothing. With `Retry-After` it could not wait.",
                list[answers.Claim],
                [examples.CLAIM],
                headers=("Retry-After",),
            )
        },
        problems=("invalid-json", "invalid-field"),
        body=ClaimRequest,
        examples={
            "One task, if there is one": {"worker": "host:17", "kinds": ["count-words"]},
            "Wait for work": {
                "worker": "host:17",
                "kinds": ["count-words", "processing"],
                "limit": 5,
                "wait_seconds": 1,
            },
        },
    )
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Claim tasks, at once or within `wait_seconds`.

        The tasks of one claim share a lease. A worker has to send heartbeats, each within a third
        of the lease, and reports the end.

        Raises:
            Problem: 422 a field is wrong.
        """
        asked = bodies.read(request, ClaimRequest)
        for place, kind in enumerate(asked.kinds):
            new_tasks.known(self._catalogue, kind, "kinds", place)
        claims = self._claim(asked)
        if not claims and asked.wait_seconds:
            if self._waiting.acquire(blocking=False):
                try:
                    claims = self._wait(asked, request.env.get("gunicorn.socket"))
                finally:
                    self._waiting.release()
            else:
                response.set_header("Retry-After", "1")
        bodies.answer(response, [self._shown(claim) for claim in claims])

    def _claim(self, asked: ClaimRequest) -> list[Claim]:
        return lending.claim(self._pool, asked.worker, asked.kinds, asked.limit, self._lease)

    def _wait(self, asked: ClaimRequest, client: socket.socket | None) -> list[Claim]:
        until = time.monotonic() + asked.wait_seconds
        while (left := until - time.monotonic()) > 0 and not (leaving.is_set() or _gone(client)):
            with self._posted:
                self._posted.wait(min(left, _LOOK_SECONDS))
            if not _gone(client) and (claims := self._claim(asked)):
                return claims
        return []

    def _shown(self, claim: Claim) -> dict[str, Any]:
        job = self._catalogue.get(claim.job)
        return {
            "task_id": claim.id,
            "kind": claim.job,
            "name": claim.name,
            "args": orjson.Fragment(claim.args or "{}"),
            "attempt": claim.attempt,
            "failures": claim.failures,
            "crashes": claim.crashes,
            "max_retries": claim.max_retries,
            "token": claim.token,
            "fence": claim.fence,
            "due_at": claim.due_at,
            "started_at": claim.started_at,
            "timeout_seconds": job.timeout if job else None,
            "lease_seconds": self._lease,
        }


_PROBLEMS = ("invalid-json", "unknown-task", "stale-token", "invalid-field")


class TaskHeartbeat:
    """`POST /tasks/{task_id}/heartbeat`: renew the lease, tell progress, hear of a cancel."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "remote workers",
        {200: Answer("The lease is renewed.", answers.Beat, examples.BEAT)},
        problems=_PROBLEMS,
        body=Heartbeat,
        examples={"Half done": {"token": examples.TOKEN, "progress": 0.5, "sequence": 3}},
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, task: UUID) -> None:
        """Renew the lease, tell progress, hear of a cancel.

        Raises:
            Problem: 409 stale token, 422 a field is wrong.
        """
        word = bodies.read(request, Heartbeat)
        try:
            beat = lending.beat(self._pool, task, word.token, word.progress, word.sequence)
        except lending.StaleTokenError:
            raise _stale(self._pool, task) from None
        body = {"lease_until": beat.lease_until, "cancelled": beat.cancelled, "late": beat.late}
        bodies.answer(response, body)


class _Report:
    """How an attempt ended; answers with the task as it is then."""

    def __init__(self, pool: Pool, catalogue: Catalogue) -> None:
        self._pool = pool
        self._catalogue = catalogue

    def _report(self, response: falcon.Response, task: UUID, token: UUID, result: Result) -> None:
        try:
            lending.report(self._pool, self._catalogue, task, token, result)
        except lending.StaleTokenError:
            raise _stale(self._pool, task) from None
        nudge.set()
        bodies.answer(response, tasks.shown(tasks.find(self._pool, task)))


class TaskComplete(_Report):
    """`POST /tasks/{task_id}/complete`: it is done, with a result."""

    body_limit = MOST_BYTES + 1024

    @describes(
        "remote workers",
        {200: Answer("The task, which is over.", answers.TaskInFull, examples.TASK_IN_FULL)},
        problems=_PROBLEMS,
        body=Completion,
        examples={"With a result": {"token": examples.TOKEN, "result": {"words": 6}}},
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, task: UUID) -> None:
        """Report that a task is done.

        Said again with the same token, it is written once.

        Raises:
            Problem: 409 stale token, 422 a field is wrong.
        """
        word = bodies.read(request, Completion, self.body_limit)
        try:
            value = None if word.result is None else orjson.dumps(word.result).decode()
        except TypeError as error:  # a number of more than 64 bits
            raise bodies.invalid([("result", str(error))]) from error
        self._report(response, task, word.token, Result("completed", value=value))


class TaskFail(_Report):
    """`POST /tasks/{task_id}/fail`: it is not done; tried again as its kind says."""

    @describes(
        "remote workers",
        {
            200: Answer(
                "The task, which waits again or is over.", answers.TaskInFull, examples.TASK_AGAIN
            )
        },
        problems=_PROBLEMS,
        body=Failure,
        examples={
            "Try again later": {"token": examples.TOKEN, "error": "busy", "retry_in": 60},
            "Not again": {"token": examples.TOKEN, "error": "no such customer", "final": True},
        },
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, task: UUID) -> None:
        """Report that a task is not done.

        It is tried again as its kind says.

        Raises:
            Problem: 409 stale token, 422 a field is wrong.
        """
        word = bodies.read(request, Failure)
        result = Result(
            word.outcome,
            storable(word.error),
            None if word.traceback is None else storable(word.traceback),
            retry_in=word.retry_in,
            final=word.final,
        )
        self._report(response, task, word.token, result)


class TaskRelease(_Report):
    """`POST /tasks/{task_id}/release`: give it back unharmed."""

    @describes(
        "remote workers",
        {200: Answer("The task, which waits again.", answers.TaskInFull, examples.TASK_AGAIN)},
        problems=_PROBLEMS,
        body=Word,
        examples={"Give it back": {"token": examples.TOKEN}},
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, task: UUID) -> None:
        """Give a task back unharmed.

        It is due again at once, and this attempt counts as no failure.

        Raises:
            Problem: 409 stale token, 422 a field is wrong.
        """
        word = bodies.read(request, Word)
        self._report(response, task, word.token, Result("interrupted", "given back"))


def _gone(client: socket.socket | None) -> bool:
    """Whether the client has hung up; a task claimed for it would wait for the lease's end."""
    if client is None:
        return False
    poll = select.poll()  # `select` knows no descriptor beyond 1,023
    poll.register(client, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def _stale(pool: Pool, task: UUID) -> Problem:
    tasks.find(pool, task)  # 404 rather than 409, if there never was such a task
    detail = "The token is not that of the attempt under way. Nothing was changed; stop the task."
    return Problem(409, "stale-token", detail)
