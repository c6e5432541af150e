"""Bodies: what comes in as JSON, read strictly and checked against a model."""

import json
from typing import Any, TypeVar

import falcon
import orjson
from pydantic import BaseModel, ValidationError

from webapp.problems import Problem

LIMIT = 64 * 1024
"""Bytes of a request's body at most."""

Model = TypeVar("Model", bound=BaseModel)


class Head:
    """Middleware: HEAD is answered as GET is, without the body (RFC 9110, 9.3.2)."""

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Route it as GET."""
        if request.method == "HEAD":
            request.method = "GET"
            request.context.head = True

    def process_response(
        self, request: falcon.Request, _response: falcon.Response, _resource: object, _ok: object
    ) -> None:
        """Falcon leaves the body out when the method is HEAD, and keeps its length."""
        if request.context.get("head"):
            request.method = "HEAD"


class Guard:
    """Middleware: refuses a body that is too long, or of a kind that we don't read."""

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Look at the headers before anything is read.

        Raises:
            Problem: 413, 415.
        """
        if (request.content_length or 0) > LIMIT:
            # Nobody reads the rest of this body, so the connection can't be used again.
            response.set_header("Connection", "close")
            raise _too_long()
        if request.get_header("Content-Encoding") not in (None, "identity"):
            raise Problem(415, "unsupported-media-type", "A body may not be compressed.")


def read(request: falcon.Request, model: type[Model]) -> Model:
    """Read the body as JSON and check it.

    Raises:
        Problem: 400 no JSON object, 413 too long, 415 another media type, 422 a field is wrong.
    """
    media = (request.content_type or "").split(";")[0].strip().lower()
    if media != "application/json":
        detail = "Send Content-Type: application/json."
        raise Problem(415, "unsupported-media-type", detail)
    data = _parse(_body(request))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        fields = [
            {"field": ".".join(map(str, e["loc"])) or "body", "reason": e["msg"]}
            for e in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        text = "; ".join(f"{field['field']}: {field['reason']}" for field in fields)
        raise Problem(422, "invalid-field", text, errors=fields) from error


def _body(request: falcon.Request) -> bytes:
    body: bytes = request.bounded_stream.read(LIMIT + 1) if request.content_length else b""
    if request.content_length is None:  # chunked, or no body at all
        body = request.stream.read(LIMIT + 1)
    if len(body) > LIMIT:
        raise _too_long()
    return body


def _parse(body: bytes) -> dict[str, Any]:
    """Parse a JSON object; duplicate keys, NaN, endless numbers and endless nesting are refused."""
    try:
        data = json.loads(
            body, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise Problem(400, "invalid-json", f"The body is no JSON: {reason}.") from error
    if not isinstance(data, dict):
        raise Problem(400, "invalid-json", "The body has to be a JSON object.")
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a key comes twice")
    return data


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is out of range")
    return number


def _too_long() -> Problem:
    return Problem(413, "content-too-large", f"A body has at most {LIMIT} bytes.")


def answer(response: falcon.Response, body: object, status: str = falcon.HTTP_200) -> None:
    """Answer with JSON; times are RFC 3339 in UTC."""
    response.status = status
    response.content_type = "application/json"
    response.data = orjson.dumps(body, option=orjson.OPT_UTC_Z)
