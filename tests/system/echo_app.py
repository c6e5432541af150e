"""A small application for the tests of the worker class, and the worker in three tempers."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from webapp.arrival import BODY_LIMIT
from webapp.gthread import Worker
from webapp.parking import RESUME, THEN, Parked

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
    """Answer with the body, as the path says.

    `/hold` first opens the FIFO that the body names; so does `/park`, but it holds no thread
    meanwhile; `/at-once` is parked, and answered before its thread knows; `/big` is big.
    """
    if int(environ.get("CONTENT_LENGTH") or 0) > BODY_LIMIT:
        start_response("413 Content Too Large", [("Content-Length", "0")])
        return [b""]
    path = environ["PATH_INFO"]
    if THEN in environ:
        body = environ[THEN]
        if body == b"error":
            raise ValueError(body)
    else:
        body = environ["wsgi.input"].read()
        if path == "/hold":
            body = Path(body.decode()).read_bytes()
        elif path == "/park":
            threading.Thread(target=_answer, args=(environ, body)).start()
            raise Parked
        elif path == "/at-once":
            environ[THEN] = body
            environ[RESUME](environ)
            raise Parked
        elif path == "/big":
            body = bytes(BIG)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def _answer(environ: "WSGIEnvironment", fifo: bytes) -> None:
    environ[THEN] = Path(fifo.decode()).read_bytes()
    environ[RESUME](environ)
