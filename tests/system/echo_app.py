"""A small application for the tests of the worker class, and the worker in three tempers."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from webapp.arrival import BODY_LIMIT
from webapp.gthread import Worker

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

BIG = 64 * 1024 * 1024


class Hasty(Worker):
    """Gives a client one second."""

    request_seconds = 1.0


class Patient(Worker):
    """Gives a client longer than any test takes."""

    request_seconds = 100.0


def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer with the body; `/hold` first opens the FIFO that the body names; `/big` is big."""
    if int(environ.get("CONTENT_LENGTH") or 0) > BODY_LIMIT:
        start_response("413 Content Too Large", [("Content-Length", "0")])
        return [b""]
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/hold":
        with open(body, "rb") as fifo:  # noqa: PTH123 - the name is bytes
            body = fifo.read()
    if environ["PATH_INFO"] == "/big":
        body = bytes(BIG)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
