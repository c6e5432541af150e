"""Tasks over HTTP: asked for, followed, cancelled, tried again."""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import falcon
import psycopg

from cluster import shown as contract
from cluster import tracing
from cluster.database import Pool
from cluster.job import Catalogue
from cluster.nudge import nudge
from cluster.store import search, tasks
from webapp import answers, bodies, examples, idempotency, new_tasks, openapi, parameters, waiting
from webapp.access import actor
from webapp.openapi import Answer, describes
from webapp.problems import Problem
from webapp.quota import Quota
from webapp.together import Connection, Together

_PAGE, _LARGEST_PAGE = 100, 1000
_BATCH_BYTES = 8 * 1024 * 1024
_ARRIVING = 2
"""Batches that a process reads at once: a thread reads a long body, and the client may be slow."""
_FORESEEN = timedelta(minutes=1)
"""Everybody who waits for work looks more often than this, and finds what will be due by itself."""
_KIND = re.compile(r"[a-z][a-z0-9_.-]{0,99}")
_STATUSES = (*tasks.STATUS_NAMES.values(), *map(str, tasks.STATUS_NAMES))

shown = contract.task
"""A task as the contract shows it; in a list without arguments and result."""


class Tasks:
    """`/tasks`: all tasks, newest first; and a new one."""

    def __init__(
        self, pool: Pool, catalogue: Catalogue, posted: threading.Condition, quota: Quota
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._posted = posted
        self._quota = quota
        self._posts = Together(pool, _enqueue_together)
        self._traced = tracing.configured()

    @describes(
        "tasks",
        {200: Answer("A page.", list[answers.Task], [examples.TASK], headers=("Link",))},
        problems=("invalid-parameter",),
        parameters=(
            openapi.one_of("status", "Only tasks of this status.", _STATUSES),
            openapi.Parameter(
                "kind",
                "query",
                "Only tasks of this kind.",
                {"type": "string", "pattern": f"^{_KIND.pattern}$"},
                "count-words",
            ),
            openapi.count("limit", "Tasks of a page.", _PAGE, _LARGEST_PAGE),
            openapi.cursor(examples.TASK["task_id"]),
        ),
    )
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List the tasks, newest first.

        A page at a time, without arguments and results.

        Raises:
            Problem: 400 no such status, limit or cursor, or a kind that no name can be.
        """
        limit = parameters.count(request, "limit", _PAGE, _LARGEST_PAGE)
        status = _status(parameters.one(request, "status"))
        kind = parameters.one(request, "kind")
        if kind is not None and not _KIND.fullmatch(kind):
            raise Problem(400, "invalid-parameter", "kind is the name of one: see /kinds.")
        cursor = parameters.cursor(request)
        place = None if cursor is None else search.Place(cursor)
        rows = search.page(self._pool, limit, search.Wanted(status, kind), place)
        if len(rows) == limit:
            wanted = {"status": status, "kind": kind}
            following = {"limit": limit, "cursor": rows[-1]["task_id"]}
            following |= {name: value for name, value in wanted.items() if value is not None}
            response.append_link(f"{request.path}?{urlencode(following)}", "next")
        bodies.answer(response, [shown(row) for row in rows])

    @describes(
        "tasks",
        {201: Answer("It is stored.", answers.TaskMade, examples.TASK_MADE, headers=("Location",))},
        problems=(
            *("invalid-json", "invalid-idempotency-key", "invalid-field"),
            *("idempotency-key-reused", "too-many-tasks"),
        ),
        parameters=(openapi.IDEMPOTENCY_KEY,),
        body=new_tasks.NewTask,
        examples={
            "Wait five seconds": {"name": "first", "processing_time": 5},
            "A kind with arguments": {
                "name": "words",
                "kind": "count-words",
                "args": {"text": "to be or not to be", "top": 2},
            },
            "Later, and only by then": {
                "name": "new year",
                "processing_time": 1,
                "run_at": "2030-01-01T00:00:00Z",
                "deadline": "2030-01-01T01:00:00Z",
                "priority": 10,
            },
        },
    )
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Ask for a task.

        The answer comes once it is stored; the same key gives the same task again.

        Raises:
            Problem: 400 no JSON, 422 a field is wrong or the key belongs to another request,
                429 the client has posted too many.
        """
        key = idempotency.key(request)
        task = bodies.read(request, new_tasks.NewTask)
        if key is not None:
            if task.idempotency_key not in (None, key):
                reason = "the header Idempotency-Key says something else"
                raise bodies.invalid([("idempotency_key", reason)])
            task.idempotency_key = key
        asked = new_tasks.asked(self._catalogue, task)
        self._quota.take(request, 1)
        # With others that come at the same time, unless it has a key or a trace.
        if asked.get("idempotency_key") is not None or self._traced:
            _answer_made(response, enqueue(self._pool, [asked], self._posted)[0])
        else:
            self._posts.do(request, response, None, asked, partial(self._stored, asked))

    def _stored(
        self, asked: dict[str, Any], response: falcon.Response, made: tasks.Made | psycopg.Error
    ) -> None:
        if isinstance(made, psycopg.Error):
            raise made
        _wake_for([asked], self._posted)
        _answer_made(response, made)


class TaskBatch:
    """`POST /tasks/batch`: up to 10,000 new tasks, all or none."""

    body_limit = _BATCH_BYTES

    def __init__(
        self, pool: Pool, catalogue: Catalogue, posted: threading.Condition, quota: Quota
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._posted = posted
        self._quota = quota
        self._arriving = threading.BoundedSemaphore(_ARRIVING)

    @describes(
        "tasks",
        {201: Answer("In their order.", list[answers.TaskMade], [examples.TASK_MADE])},
        problems=(
            *("invalid-json", "invalid-idempotency-key", "invalid-field"),
            *("idempotency-key-reused", "too-many-tasks", "busy"),
        ),
        body=new_tasks.Batch,
        examples={
            "Two": [{"name": "a", "processing_time": 1}, {"name": "b", "processing_time": 1}],
            "In an object": {"tasks": [{"name": "a", "processing_time": 1}]},
        },
    )
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Ask for up to 10,000 tasks, all or none.

        A body may have 8 MiB here.

        Raises:
            Problem: 400 no JSON, or a key for all, 422 a field of a task is wrong, 429 the client
                has posted too many, 503 too many batches at once.
        """
        if request.get_header("Idempotency-Key") is not None:
            detail = "A batch has no key of its own: give each task its idempotency_key."
            raise Problem(400, "invalid-idempotency-key", detail)
        if not self._arriving.acquire(blocking=False):
            problem = Problem(503, "busy", "Other batches are being read; try again.")
            problem.headers = {"Retry-After": "1"}
            raise problem
        try:
            data = bodies.parse(request, _BATCH_BYTES)
        finally:
            self._arriving.release()
        asked = new_tasks.batch(self._catalogue, data)
        self._quota.take(request, len(asked))
        with _keys_named():
            made = tasks.enqueue_batch(self._pool, asked)
        _wake_for(asked, self._posted)
        bodies.answer(response, [{"task_id": each} for each in made], falcon.HTTP_201)


class Task:
    """`/tasks/{task_id}`: one task, wherever it is in its life."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "tasks",
        {200: Answer("The task.", answers.TaskInFull, examples.TASK_IN_FULL)},
        problems=("unknown-task",),
    )
    def on_get(self, _request: falcon.Request, response: falcon.Response, task: UUID) -> None:
        """Show a task with its arguments and its result.

        Raises:
            Problem: 404 unknown task.
        """
        bodies.answer(response, shown(find(self._pool, task)))

    @describes(
        "tasks",
        {
            200: Answer("It will never run.", answers.TaskInFull, examples.TASK_CANCELLED),
            202: Answer(
                "It runs, and was told to stop.", answers.TaskInFull, examples.TASK_RUNNING
            ),
        },
        problems=("unknown-task", "task-over"),
    )
    def on_delete(self, request: falcon.Request, response: falcon.Response, task: UUID) -> None:
        """Cancel a task.

        Raises:
            Problem: 404 unknown task, 409 it is over.
        """
        done = tasks.cancel(self._pool, task, by=actor(request))
        row = find(self._pool, task)
        if not done:
            raise Problem(409, "task-over", f"The task is over: {_name(row)}.")
        running = row["status"] == tasks.PROCESSING
        bodies.answer(response, shown(row), falcon.HTTP_202 if running else falcon.HTTP_200)


class TaskRetry:
    """`POST /tasks/{task_id}/retry`: try an ERROR again."""

    def __init__(self, pool: Pool, posted: threading.Condition) -> None:
        self._pool = pool
        self._posted = posted

    @describes(
        "tasks",
        {202: Answer("The task, which waits again.", answers.TaskInFull, examples.TASK_AGAIN)},
        problems=("unknown-task", "task-not-failed"),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, task: UUID) -> None:
        """Try a task again that ended in an error.

        Raises:
            Problem: 404 unknown task, 409 it did not end in an error.
        """
        row = retry(self._pool, task, self._posted, actor(request))
        bodies.answer(response, shown(row), falcon.HTTP_202)


class TaskAttempts:
    """`GET /tasks/{task_id}/attempts`: its finished attempts, oldest first."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "tasks",
        {200: Answer("All of them.", list[answers.Attempt], [examples.ATTEMPT])},
        problems=("unknown-task",),
    )
    def on_get(self, _request: falcon.Request, response: falcon.Response, task: UUID) -> None:
        """List the finished attempts of a task, oldest first.

        Raises:
            Problem: 404 unknown task.
        """
        find(self._pool, task)
        bodies.answer(response, tasks.attempts(self._pool, task))


class Kinds:
    """`GET /kinds`: the kinds of tasks, and the arguments that each takes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes("tasks", {200: Answer("All of them.", list[answers.Kind], [examples.KIND])})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """List the kinds of tasks, and the arguments that each takes."""
        bodies.answer(response, tasks.kinds(self._pool))


def retry(pool: Pool, task: UUID, posted: threading.Condition, by: str) -> dict[str, Any]:
    """Put a task back that ended in an error, and return it.

    Raises:
        Problem: 404 unknown task, 409 it did not end in an error.
    """
    done = tasks.retry(pool, task, by)
    row = find(pool, task)
    if not done:
        raise Problem(409, "task-not-failed", f"The task is {_name(row)}, not ERROR.")
    wake(posted)
    return row


def find(pool: Pool, task: UUID) -> dict[str, Any]:
    """Return a task, and why it waits if it does.

    Raises:
        Problem: 404 there is none.
    """
    row = tasks.get(pool, task)
    if row is None:
        raise Problem(404, "unknown-task", f"There is no task {task}.")
    why = waiting.of_run(pool, task, waits_still=row["status"] == tasks.NEW)
    return {**row, "why": why}


def enqueue(
    pool: Pool, asked: Sequence[dict[str, Any]], posted: threading.Condition, by: str | None = None
) -> list[tasks.Made]:
    """Store tasks that were checked, all or none.

    Args:
        pool: any.
        asked: as `new_tasks.asked` returns them.
        posted: whom to tell.
        by: who wants it, if it is to be recorded.

    Raises:
        Problem: 422 a key belongs to a different request.
    """
    with _keys_named():
        made = tasks.enqueue_many(pool, asked, by)
    _wake_for(asked, posted)
    return made


def _answer_made(response: falcon.Response, made: tasks.Made) -> None:
    response.location = f"/tasks/{made.id}"
    bodies.answer(response, {"task_id": made.id}, falcon.HTTP_201)


def _enqueue_together(
    connection: Connection, _key: None, asked: Sequence[dict[str, Any]]
) -> list[tasks.Made | psycopg.Error]:
    """Store tasks that have nothing to do with each other; in place of one that can't be, why."""
    try:
        return [*tasks.enqueue_keyless(connection, asked)]
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        if len(asked) == 1:
            return [error]
        return [each for task in asked for each in _enqueue_together(connection, None, [task])]


def _wake_for(asked: Sequence[Mapping[str, Any]], posted: threading.Condition) -> None:
    """Wake whoever may start one of these tasks, unless all of them are for later."""
    later = datetime.now(UTC) + _FORESEEN
    if any(task.get("run_at") is None or task["run_at"] < later for task in asked):
        wake(posted)


@contextmanager
def _keys_named() -> Iterator[None]:
    """Say which task's key belongs to a different request."""
    try:
        yield
    except tasks.KeyReusedError as error:
        detail = "This idempotency key belongs to a different request."
        raise Problem(422, "idempotency-key-reused", detail, place=error.place) from error


def wake(posted: threading.Condition) -> None:
    """Wake our own job thread, and the remote workers that wait in this process."""
    nudge.set()
    with posted:
        posted.notify_all()


def _name(row: Mapping[str, Any]) -> str:
    return tasks.STATUS_NAMES[row["status"]]


def _status(text: str | None) -> int | None:
    if text is None:
        return None
    for number, name in tasks.STATUS_NAMES.items():
        if text in (str(number), name):
            return number
    there = ", ".join(f"{number} ({name})" for number, name in tasks.STATUS_NAMES.items())
    raise Problem(400, "invalid-parameter", f"status is one of {there}.")
