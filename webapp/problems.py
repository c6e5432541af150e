"""Problems: every error as `application/problem+json` (RFC 9457) or a page, never a traceback."""

import threading
import time
from typing import Any
from uuid import uuid4

import falcon
import orjson
import psycopg
from psycopg_pool import PoolTimeout

from cluster import log
from webapp import pages, visits
from webapp.known_problems import TYPES
from webapp.together import Untouched

_log = log.get("http")

_TELL_SECONDS = 1.0
"""Between two lines about a database that does not answer."""


class Problem(Exception):  # noqa: N818 - it is what RFC 9457 calls it
    """An answer that is no success.

    Args:
        status: of HTTP.
        name: the last part of the stable `type`.
        detail: one sentence for a person.
        **more: further members.
    """

    def __init__(self, status: int, name: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.more = more
        self.headers: dict[str, str] = {}


class _Unanswered:
    """Tells of requests that the database did not answer, in a line a second at most.

    In an outage there are hundreds a second, as all but a few are refused at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._silent_until = 0.0
        self._others = 0

    def tell(self, reason: str) -> None:
        """Write a line, or count for the next one."""
        now = time.monotonic()
        with self._lock:
            if now < self._silent_until:
                self._others += 1
                return
            others, self._others = self._others, 0
            self._silent_until = now + _TELL_SECONDS
        _log.warning("no answer from the database", reason=reason, others=others)


_unanswered = _Unanswered()


def install(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Make every error of the application a problem."""
    app.set_error_serializer(_serialize)
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _falcon)
    app.add_error_handler(psycopg.OperationalError, _database)
    app.add_error_handler(psycopg.errors.ReadOnlySqlTransaction, _database)  # became a standby
    app.add_error_handler(Problem, _problem)


def _answer(request: falcon.Request, response: falcon.Response, problem: Problem) -> None:
    response.status = problem.status
    for name, value in problem.headers.items():
        response.set_header(name, value)
    title = problem.name.replace("-", " ").capitalize()
    if visits.wants_page(request):
        back = visits.back(request)
        pages.show(response, "problem.html", problem=problem, heading=title, back=back)
        return
    body = {
        "type": f"{TYPES}{problem.name}",
        "title": title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.more,
    }
    response.content_type = "application/problem+json"
    response.data = orjson.dumps(body, option=orjson.OPT_UTC_Z)


def _problem(
    request: falcon.Request, response: falcon.Response, error: Exception, _params: dict[str, Any]
) -> None:
    assert isinstance(error, Problem)  # noqa: S101 - registered for this class
    _answer(request, response, error)


def _falcon(
    request: falcon.Request, response: falcon.Response, error: Exception, _params: dict[str, Any]
) -> None:
    """Translate falcon's own errors: 404, 405, 415 and the like."""
    assert isinstance(error, falcon.HTTPError)  # noqa: S101 - registered for this class
    title = falcon.code_to_http_status(error.status_code).split(" ", 1)[1]
    name = title.lower().replace(" ", "-")
    problem = Problem(error.status_code, name, error.description or f"{title}.")
    problem.headers = dict(error.headers or {})
    _answer(request, response, problem)


def _database(
    request: falcon.Request, response: falcon.Response, error: Exception, _params: dict[str, Any]
) -> None:
    """Say that the database is away, and of a change what is known of it."""
    _unanswered.tell(str(error).strip().split("\n")[0])
    detail = "The database does not answer; try again."
    if isinstance(error, Untouched):
        detail = "The database is busy or away. Nothing was changed; try again."
    elif isinstance(error, PoolTimeout):
        detail = "The database is busy or away; try again."  # perhaps only what is shown is missing
    elif request.get_header("Idempotency-Key"):
        detail = "The database does not answer. Try again with the same Idempotency-Key."
    elif request.method not in ("GET", "OPTIONS"):
        detail = "The database does not answer, and nobody knows whether this was done: look first."
    problem = Problem(503, "database-unavailable", detail)
    problem.headers = {"Retry-After": "1"}
    _answer(request, response, problem)


def _unexpected(
    request: falcon.Request, response: falcon.Response, _error: Exception, _params: dict[str, Any]
) -> None:
    """Log what nobody expected under an id, and give the client that id and nothing else."""
    number = str(uuid4())
    _log.exception("unexpected error", error_id=number, method=request.method, path=request.path)
    detail = "Something went wrong here. The log has the particulars under this id."
    _answer(request, response, Problem(500, "internal-error", detail, error_id=number))


def _serialize(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    _falcon(request, response, error, {})
