"""Bodies: what comes in as JSON or as a form, read strictly and checked against a model."""

import json
from codecs import BOM_UTF8
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import falcon
import orjson
from gunicorn.http.errors import NoMoreData, ParseException
from pydantic import BaseModel, ValidationError

from webapp import forms
from webapp.problems import Problem

LIMIT = 64 * 1024
"""Bytes of a request's body at most."""

_DEEPEST = 32
"""Levels of arrays and objects."""

_MOST_FIELDS = 200
"""Of a form."""

MOST_COMPLAINTS = 100
"""Of an answer; who sends more that is wrong is told that there is more."""

_LONGEST_PATH = 200
"""Characters of a field's path in a complaint."""

Model = TypeVar("Model", bound=BaseModel)


class Head:
    """Middleware: HEAD is answered as GET is, without the body (RFC 9110, 9.3.2)."""

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Route it as GET."""
        if request.method == "HEAD":
            request.method = "GET"
            request.context.head = True

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: object, _ok: object
    ) -> None:
        """Falcon leaves the body out when the method is HEAD, and keeps its length.

        It does not know of ours, where it says which methods there are.
        """
        allowed = response.get_header("Allow")
        if allowed and "HEAD" not in allowed:
            response.set_header("Allow", allowed.replace("GET", "GET, HEAD"))
        if request.context.get("head"):
            request.method = "HEAD"


class Guard:
    """Middleware: refuses a body that is too long, or of a kind that we don't read."""

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Look at the headers before anything is read.

        Raises:
            Problem: 415.
        """
        if request.get_header("Content-Encoding") not in (None, "identity"):
            raise Problem(415, "unsupported-media-type", "A body may not be compressed.")

    def process_resource(
        self,
        request: falcon.Request,
        _response: falcon.Response,
        resource: object,
        _params: dict[str, Any],
    ) -> None:
        """Look at the length, now that it is known who would read it.

        Raises:
            Problem: 413.
        """
        limit = getattr(resource, "body_limit", LIMIT)
        if (request.content_length or 0) > limit:
            raise _too_long(limit)


def read(request: falcon.Request, model: type[Model], limit: int = LIMIT) -> Model:
    """Read the body as a JSON object and check it.

    Raises:
        Problem: 400 no JSON object, 413 too long, 415 another media type, 422 a field is wrong.
    """
    data = parse(request, limit)
    if not isinstance(data, dict):
        raise Problem(400, "invalid-json", "The body has to be a JSON object.")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise invalid(complaints(error)) from error


def parse(request: falcon.Request, limit: int = LIMIT) -> Any:
    """Read the body as JSON.

    Duplicate keys, NaN, endless numbers, deep nesting and strings with a NUL are refused.

    Raises:
        Problem: 400 no JSON, 413 too long, 415 another media type, 422 a NUL.
    """
    media = (request.content_type or "").split(";")[0].strip().lower()
    if media != "application/json":
        detail = "Send Content-Type: application/json."
        raise Problem(415, "unsupported-media-type", detail)
    body = _body(request, limit)
    try:
        # UTF-8 alone (RFC 8259, 8.1): in UTF-16 nobody would see the \\u0000 that is sought below.
        data = _loads(body.removeprefix(BOM_UTF8).decode())
        # To look at each value takes as long as to read it; most bodies need not be looked at.
        if b"\\u0000" in body or (
            body.count(b"[") + body.count(b"{") > _DEEPEST and _deeper(data, _DEEPEST)
        ):
            _inspect(data, (), _DEEPEST)
    except (ValueError, RecursionError) as error:
        # Python goes on with what the server could do about too long a number.
        told = str(error).partition(";")[0]
        reason = "nested too deep" if isinstance(error, RecursionError) else told
        raise Problem(400, "invalid-json", f"The body is no JSON: {reason}.") from error
    return data


def form(request: falcon.Request) -> dict[str, str]:
    """Read the body as the fields of a form of ours; an empty field is there, and empty.

    Raises:
        falcon.HTTPBadRequest: it is no form.
        Problem: 403 made for another browser, 413 too long, 415 another media type, 422 a NUL.
    """
    media = (request.content_type or "").split(";")[0].strip().lower()
    if media != falcon.MEDIA_URLENCODED:
        detail = f"Send Content-Type: {falcon.MEDIA_URLENCODED}."
        raise Problem(415, "unsupported-media-type", detail)
    try:
        text = _body(request, LIMIT).decode("ascii")
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
        fields = _object(pairs)
    except ValueError as error:
        raise falcon.HTTPBadRequest(description="The body is no form that we can read.") from error
    forms.check(request, fields)
    for name, value in fields.items():
        if "\x00" in name + value:
            raise invalid([(name.replace("\x00", ""), "it holds a NUL character")])
    return fields


def value(text: str) -> Any:
    """Read a text as any JSON value, as strictly as a body.

    Raises:
        ValueError: it is none; the message says why.
    """
    try:
        data = _loads(text)
        _inspect(data, (), _DEEPEST)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return data


def text(data: object) -> str:
    """Return a value as JSON."""
    return orjson.dumps(data).decode()


def complaints(error: ValidationError, *at: int | str) -> list[tuple[str, str]]:
    """Return the path of each field that pydantic complains about, and the reason."""
    return [
        (".".join(map(str, (*at, *each["loc"]))) or "body", each["msg"])
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def invalid(found: list[tuple[str, str]]) -> Problem:
    """Return the problem that names each field that is wrong."""
    told = [
        (path[:_LONGEST_PATH].encode(errors="replace").decode(), why)  # half a pair can't be sent
        for path, why in found[:MOST_COMPLAINTS]
    ]
    fields = [{"field": field, "reason": reason} for field, reason in told]
    text = "; ".join(f"{field}: {reason}" for field, reason in told)
    if len(found) > len(told):
        text += "; and more"
    return Problem(422, "invalid-field", text, errors=fields)


def _inspect(data: object, path: tuple[int | str, ...], levels: int) -> None:
    """Refuse what is nested too deep, and strings that PostgreSQL can't keep."""
    if isinstance(data, str) and "\x00" in data:
        raise invalid([(".".join(map(str, path)) or "body", "it holds a NUL character")])
    if not isinstance(data, dict | list):
        return
    if not levels:
        raise RecursionError
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        _inspect(key, (*path, key), levels)
        _inspect(value, (*path, key), levels - 1)


def _deeper(data: object, levels: int) -> bool:
    """Whether arrays and objects are nested deeper than that."""
    level = [data]
    for _ in range(levels + 1):
        lists = [each for each in level if isinstance(each, list)]
        dicts = [each for each in level if isinstance(each, dict)]
        level = [each for inner in (*lists, *(d.values() for d in dicts)) for each in inner]
        if not lists and not dicts:
            return False
    return True


def _body(request: falcon.Request, limit: int) -> bytes:
    """Read the body.

    Raises:
        Problem: 400 it is not whole, 413 too long.
    """
    try:
        body: bytes = request.bounded_stream.read(limit + 1) if request.content_length else b""
        if request.content_length is None:  # chunked, or no body at all
            body = request.stream.read(limit + 1)
    except (ParseException, NoMoreData) as error:
        raise _broken("Its chunks make no sense.") from error
    if len(body) > limit:
        raise _too_long(limit)
    # What was cut off may be JSON by chance, and somebody's money.
    if len(body) < (request.content_length or 0):
        raise _broken(f"It has {len(body)} bytes, of {request.content_length} announced.")
    return body


def _broken(reason: str) -> Problem:
    return Problem(400, "bad-request", f"The body is not whole. {reason}")


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


# Made once: `json.loads` makes one for each text, which takes longer than to read most of them.
_loads = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite
).decode


def _too_long(limit: int) -> Problem:
    return Problem(413, "content-too-large", f"A body has at most {limit} bytes.")


def answer(response: falcon.Response, body: object, status: str = falcon.HTTP_200) -> None:
    """Answer with JSON; times are RFC 3339 in UTC."""
    response.status = status
    response.content_type = "application/json"
    response.data = orjson.dumps(body, option=orjson.OPT_UTC_Z)
