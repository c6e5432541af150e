"""The page of all tasks: by status, kind and name, or straight to one by its id."""

import re

import falcon

from cluster.database import Pool
from cluster.store import search, tasks
from cluster.store.views import Row
from webapp import pages, parameters
from webapp.pages import paging
from webapp.problems import Problem

_CURSOR = re.compile(r"([0-9a-f-]{36})(?:_(.*))?", re.DOTALL)
_LONGEST = 201
"""Characters of a name, and the `*`."""


class TasksPage:
    """`GET /ui/tasks?status=&kind=&q=`, paged by `before` and `after`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of tasks, or send on to the one whose id was asked for.

        Raises:
            Problem: 400 no such status or page, 404 no task has this id.
        """
        status, kind, text = (_given(request, name) for name in ("status", "kind", "q"))
        if text and (task := parameters.uuid(text)):
            if tasks.get(self._pool, task) is None:
                raise Problem(404, "unknown-task", f"There is no task {task}, or no more.")
            raise falcon.HTTPSeeOther(f"/ui/runs/{task}")
        wanted = search.Wanted(_status(status), kind, text)
        page = paging.read(
            request,
            _place,
            lambda limit, key, newer: search.page(self._pool, limit, wanted, key, newer=newer),
            lambda row: _cursor(row, wanted),
            {"status": status, "kind": kind, "q": text},
        )
        pages.show(
            response,
            "tasks.html",
            page=page,
            kinds=[row["name"] for row in tasks.kinds(self._pool)],
            statuses=tasks.STATUS_NAMES,
            wanted=wanted,
        )


def _given(request: falcon.Request, name: str) -> str | None:
    """Return what a field of the form says; None if it is empty."""
    text = (parameters.one(request, name) or "").strip()
    if "\x00" in text or len(text) > _LONGEST:
        raise Problem(400, "invalid-parameter", f"{name} is text of {_LONGEST} characters at most.")
    return text or None


def _status(text: str | None) -> int | None:
    for number, name in tasks.STATUS_NAMES.items():
        if text in (str(number), name):
            return number
    if text is not None:
        raise Problem(400, "invalid-parameter", f"There is no status {text!r}.")
    return None


def _cursor(row: Row, wanted: search.Wanted) -> str:
    return f"{row['task_id']}_{row['name']}" if wanted.name else str(row["task_id"])


def _place(text: str) -> search.Place | None:
    found = _CURSOR.fullmatch(text)
    task = parameters.uuid(found[1]) if found else None
    if found is None or task is None or "\x00" in text:
        return None
    return search.Place(task, found[2] or "")
