"""The document: OpenAPI 3.1 of the whole API, made of what stands beside the responders."""

import inspect
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MethodType
from typing import Any

import falcon
import orjson
from apispec import APISpec
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from webapp import openapi
from webapp.known_problems import ALWAYS, KNOWN, TYPES
from webapp.openapi import Answer, Operation, Parameter

Json = dict[str, Any]

VERSION = "0.1.0"
"""Of the API; the package's."""

_ABOUT = """
Cron jobs and background work shared by the workers of one service, and an account.

Times are RFC 3339 in UTC, durations are seconds. Every error is a problem (RFC 9457):
`application/problem+json` with a stable `type`. A path that answers GET answers HEAD as well, and
OPTIONS says which methods there are; another method is answered with 405
`urn:ronin:problem:method-not-allowed`. More fields may come; ignore those you don't know.
"""

_TAGS = {
    "account": "An account whose balance is never negative.",
    "jobs": "What runs by a schedule.",
    "tasks": "What somebody asks for.",
    "runs": "Any run, whether a schedule made it or somebody asked for it.",
    "remote workers": "Tasks for workers that speak HTTP only; docs/remote-workers.md has more.",
    "service": "Whether the service works, and who works in it.",
}

_FIELD = re.compile(r"{(\w+)(?::\w+)?}")


class Document:
    """`GET /openapi.json`: the document."""

    def __init__(self, router: openapi.Router) -> None:
        self._router = router

    @cached_property
    def content(self) -> Json:
        """The document, made at first use: then all routes are known."""
        return document(self._router.added)

    @cached_property
    def _text(self) -> bytes:
        return orjson.dumps(self.content)

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the document."""
        response.content_type = "application/json"
        response.data = self._text


def document(routes: Iterable[tuple[str, object]]) -> Json:
    """Return the document of these routes, those of them that are described."""
    found = list(_described(routes))
    shapes = _Shapes([each for _, _, _, each in found])
    spec = APISpec(
        title="Ronin",
        version=VERSION,
        openapi_version="3.1.0",
        info={"description": _ABOUT.strip(), "license": {"name": "MIT", "identifier": "MIT"}},
        servers=[{"url": "/", "description": "This service"}],
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        security=[{}, {"token": []}],
    )
    for name, schema in shapes.components.items():
        spec.components.schema(name, schema)
    for name in KNOWN:
        spec.components.schema(_title(name), _problem_schema(name))
        shown = {"summary": KNOWN[name].text, "value": _problem_example(name)}
        spec.components.example(_title(name), shown)
    for name in ALWAYS:
        spec.components.response(_title(name), _problem_response([name]))
    for name, (text, schema, example) in openapi.HEADERS.items():
        header = {"description": text, "schema": schema, "example": example}
        spec.components.header(name, header)
    token = {"type": "http", "scheme": "bearer", "description": "Where `RONIN_TOKENS` is set."}
    spec.components.security_scheme("token", token)
    for template, method, responder, operation in found:
        path = _FIELD.sub(lambda field: f"{{{openapi.IN_PATH[field[1]].name}}}", template)
        fields = _FIELD.findall(template)
        spec.path(path, operations={method: _operation(responder, operation, fields, shapes)})
    return spec.to_dict()


def _described(
    routes: Iterable[tuple[str, object]],
) -> Iterable[tuple[str, str, MethodType, Operation]]:
    for template, resource in routes:
        for method in ("get", "post", "put", "patch", "delete"):
            responder = getattr(resource, f"on_{method}", None)
            if isinstance(responder, MethodType) and (operation := openapi.operation(responder)):
                yield template, method, responder, operation


class _Untitled(GenerateJsonSchema):
    """JSON Schema without titles that repeat the names of the fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Say no."""
        del schema
        return False


class _Shapes:
    """The JSON Schemas of all bodies and answers, which share their components."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        bodies = [(each.body, "validation") for each in operations if each.body is not None]
        answers = [
            (answer.shape, "serialization")
            for each in operations
            for answer in each.answers.values()
        ]
        wanted = {(repr(shape), mode): (shape, mode) for shape, mode in (*bodies, *answers)}
        found, rest = TypeAdapter.json_schemas(
            [(key, mode, TypeAdapter(shape)) for key, (shape, mode) in wanted.items()],  # type: ignore[misc]
            ref_template="#/components/schemas/{model}",
            schema_generator=_Untitled,
        )
        self.components: Json = rest.get("$defs", {})
        self._found = {key: schema for (key, _), schema in found.items()}

    def of(self, shape: Any, mode: str) -> Json:
        return self._found[repr(shape), mode]


def _operation(
    responder: MethodType, operation: Operation, fields: Sequence[str], shapes: _Shapes
) -> Json:
    summary, _, rest = _said(responder).partition("\n\n")
    method, owner = responder.__name__.removeprefix("on_"), type(responder.__self__).__name__
    in_path = [openapi.IN_PATH[field] for field in fields]
    made: Json = {
        "operationId": method + owner,
        "tags": [operation.tag],
        "summary": " ".join(summary.split()).rstrip("."),
        "description": rest.strip() or " ".join(summary.split()),
        "parameters": [_parameter(each) for each in (*in_path, *operation.parameters)],
        "responses": _responses(operation, in_path, shapes),
    }
    if operation.body is not None:
        named = {
            f"example{number}": {"summary": text, "value": value}
            for number, (text, value) in enumerate(operation.examples.items(), 1)
        }
        content = {"schema": shapes.of(operation.body, "validation"), "examples": named}
        made["requestBody"] = {"required": True, "content": {"application/json": content}}
    return made


def _said(responder: MethodType) -> str:
    """Return the docstring of a responder without what is for programmers."""
    return re.split(r"\n\n(?:Args|Raises):", inspect.getdoc(responder) or "")[0]


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.text,
        "schema": parameter.schema,
        "example": parameter.example,
    }


def _responses(operation: Operation, in_path: Sequence[Parameter], shapes: _Shapes) -> Json:
    found = {
        str(status): _answer(answer, shapes) for status, answer in sorted(operation.answers.items())
    }
    usual = (
        *ALWAYS,
        *(["not-found"] if in_path else []),
        *(["database-unavailable"] if operation.database else []),
    )
    problems: dict[int, list[str]] = defaultdict(list)
    for name in (*operation.problems, *usual):
        problems[KNOWN[name].status].append(name)
    for status, names in sorted(problems.items()):
        if status in operation.answers:
            _add_problems(found[str(status)], names)
        elif len(names) == 1 and names[0] in ALWAYS:
            found[str(status)] = {"$ref": f"#/components/responses/{_title(names[0])}"}
        else:
            found[str(status)] = _problem_response(names)
    return found


def _answer(answer: Answer, shapes: _Shapes) -> Json:
    content = {"schema": shapes.of(answer.shape, "serialization"), "example": answer.example}
    made: Json = {"description": answer.text, "content": {"application/json": content}}
    if answer.headers:
        made["headers"] = {name: _header(name) for name in answer.headers}
    return made


def _header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


def _add_problems(response: Json, names: Sequence[str]) -> None:
    """Let an answer be a problem as well: not ready, or not even the database is asked."""
    more = _problem_response(names)
    response["description"] += " Or: " + more["description"]
    response["content"] |= more["content"]


def _problem_response(names: Sequence[str]) -> Json:
    schemas = [{"$ref": f"#/components/schemas/{_title(name)}"} for name in names]
    content = {
        "schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas},
        "examples": {name: {"$ref": f"#/components/examples/{_title(name)}"} for name in names},
    }
    made: Json = {
        "description": " ".join(KNOWN[name].text for name in names),
        "content": {"application/problem+json": content},
    }
    if KNOWN[names[0]].status == falcon.http_status_to_code(falcon.HTTP_503):
        made["headers"] = {"Retry-After": _header("Retry-After")}
    return made


def _problem_schema(name: str) -> Json:
    known = KNOWN[name]
    more: Mapping[str, Any] = {field: schema for field, (schema, _) in known.more.items()}
    return {
        "type": "object",
        "description": known.text,
        "properties": {
            "type": {"const": TYPES + name, "description": "Stable; for programs."},
            "title": {"type": "string", "description": "The last part of the type, for people."},
            "status": {"const": known.status, "description": "Of HTTP."},
            "detail": {"type": "string", "description": "One sentence for people."},
            **more,
            **known.may,
        },
        "required": ["type", "title", "status", "detail", *more],
    }


def _problem_example(name: str) -> Json:
    known = KNOWN[name]
    return {
        "type": TYPES + name,
        "title": name.replace("-", " ").capitalize(),
        "status": known.status,
        "detail": known.detail,
        **{field: example for field, (_, example) in known.more.items()},
    }


def _title(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-")) + "Problem"
