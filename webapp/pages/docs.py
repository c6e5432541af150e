"""The documentation of the API as a page, made of the document; to read, and to try it out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import falcon

from webapp import pages
from webapp.document import Document
from webapp.known_problems import ALWAYS, KNOWN, TYPES

Json = dict[str, Any]

_USUAL = (*ALWAYS, "not-found", "method-not-allowed", "database-unavailable")
"""Problems that are shown once for all."""
_LINE = 100
"""Characters of an example that stays on one line."""


@dataclass(frozen=True, slots=True)
class Row:
    """A parameter, or a field of a body.

    Attributes:
        name: as a client writes it.
        type: in words.
        text: what it means.
        needed: whether it has to be there.
        place: of a parameter: path, query or header.
        example: of a parameter, as text.
    """

    name: str
    type: str
    text: str
    needed: bool
    place: str = ""
    example: str = ""


class Docs:
    """`GET /docs`: every operation with its parameters, answers, errors and examples."""

    def __init__(self, document: Document) -> None:
        self._document = document

    @cached_property
    def _groups(self) -> list[Json]:
        return list(_groups(self._document.content))

    @cached_property
    def _shapes(self) -> list[Json]:
        return list(_shapes(self._document.content))

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the page."""
        api = self._document.content
        pages.show(
            response,
            "docs.html",
            about=api["info"]["description"],
            version=api["info"]["version"],
            groups=self._groups,
            shapes=self._shapes,
            usual=[_problem(name) for name in sorted(_USUAL, key=lambda name: KNOWN[name].status)],
            types=TYPES,
            here_is=request.prefix,
        )


def _groups(api: Json) -> Iterator[Json]:
    """Yield the tags, each with its operations; of answers that look alike, one has an example."""
    first: dict[str, str] = {}
    for tag in api["tags"]:
        found = [
            _operation(api, path, method, operation)
            for path, item in api["paths"].items()
            for method, operation in item.items()
            if tag["name"] in operation["tags"]
        ]
        for operation in found:
            for answer in operation["answers"]:
                place = first.setdefault(answer["type"], operation["id"])
                answer["like"] = place if place != operation["id"] else ""
        yield {**tag, "id": tag["name"].replace(" ", "-"), "operations": found}


def _operation(api: Json, path: str, method: str, operation: Json) -> Json:
    parameters = [_parameter(each) for each in operation["parameters"]]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return {
        **operation,
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "parameters": parameters,
        "body": _shape(api, body["schema"]) if body else None,
        "examples": [
            {**example, "text": _text(example["value"]), "one_line": _one_line(example["value"])}
            for example in body.get("examples", {}).values()
        ],
        "filled": _filled(path, parameters),
        "answers": list(_answers(operation)),
        "problems": list(_problems(operation)),
    }


def _parameter(parameter: Json) -> Row:
    text, schema = parameter["description"], parameter["schema"]
    shown = str(parameter["example"])
    place, needed = parameter["in"], parameter["required"]
    return Row(parameter["name"], type_of(schema), text, needed, place, shown)


def _filled(path: str, parameters: list[Row]) -> str:
    """Return a path with the examples of its parameters."""
    for row in parameters:
        path = path.replace(f"{{{row.name}}}", row.example)
    return path


def _shape(api: Json, schema: Json) -> Json:
    """Return what a body is: words, and the fields of the object if it is one."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return {"type": type_of(schema), "rows": _rows(api["components"]["schemas"].get(name, {}))}


def _rows(schema: Json) -> list[Row]:
    needed = schema.get("required", ())
    return [
        Row(name, type_of(its), its.get("description", ""), name in needed)
        for name, its in schema.get("properties", {}).items()
    ]


def _answers(operation: Json) -> Iterator[Json]:
    for status, response in operation["responses"].items():
        content = response.get("content", {}).get("application/json")
        if content:
            yield {
                "status": status,
                "text": response["description"],
                "type": type_of(content["schema"]),
                "shape": _named(content["schema"]),
                "headers": list(response.get("headers", {})),
                "example": _text(content["example"]),
            }


def _problems(operation: Json) -> Iterator[Json]:
    """Yield the problems of an operation, but for those of every one."""
    for response in operation["responses"].values():
        content = response.get("content", {}).get("application/problem+json", {})
        for name in content.get("examples", {}):
            if name not in _USUAL:
                yield _problem(name)


def _problem(name: str) -> Json:
    return {"name": name, "status": KNOWN[name].status, "text": KNOWN[name].text}


def _shapes(api: Json) -> Iterator[Json]:
    """Yield what answers are made of; of one that has all that another has, what it has besides."""
    found = {
        name: schema
        for name, schema in api["components"]["schemas"].items()
        if not name.endswith("Problem") and schema.get("additionalProperties", True)
    }
    for name, schema in found.items():
        base = max(
            (each for each in found if _fields(found[each]) < _fields(schema)),
            key=lambda each: len(_fields(found[each])),
            default="",
        )
        inherited = _fields(found[base]) if base else set()
        rows = [row for row in _rows(schema) if row.name not in inherited]
        yield {"name": name, "text": schema["description"], "base": base, "rows": rows}


def _fields(schema: Json) -> set[str]:
    return set(schema["properties"])


def _named(schema: Json) -> str:
    """Return the name of the shape that a schema is, or is a list of."""
    found: str = schema.get("items", schema).get("$ref", "")
    return found.rpartition("/")[2]


def type_of(schema: Json) -> str:
    """Return in words which values a schema allows."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(type_of(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(str(each) for each in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}{_limits(schema, 'Items')}"
    kind = str(schema.get("format") or schema.get("type") or "any JSON")
    return kind + _limits(schema, "Length" if kind == "string" else "imum")


def _limits(schema: Json, of: str) -> str:
    names = ("minimum", "maximum") if of == "imum" else (f"min{of}", f"max{of}")
    least, most = (schema.get(name) for name in names)
    if least is not None and most is not None:
        return f", {least} to {most}"
    if least is None and most is None:
        return ""
    return f", at least {least}" if most is None else f", at most {most}"


def _text(value: Any) -> str:
    """Return JSON as people read it: short things on one line."""
    line = _one_line(value)
    return line if len(line) <= _LINE else json.dumps(value, indent=2, ensure_ascii=False)


def _one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
