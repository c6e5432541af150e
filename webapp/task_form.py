"""Task forms: the fields that a person fills in, as the JSON that a program would send."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from cluster.job import Catalogue
from webapp import bodies, new_tasks
from webapp.problems import Problem

_ARGUMENT = "args."
_SEEN = ("name", "priority", "run_at")
_OWN = (*_SEEN, "idempotency_key")
_WITHOUT_ZONE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]+")
_Schema = Mapping[str, Any]


def read(catalogue: Catalogue, kind: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the task that a form asks for, checked as one that is posted as JSON.

    An empty field is one that was left out, save a text that the kind insists on; a time without
    a zone is UTC. Arrays, objects and what may be anything are written as JSON.

    Args:
        catalogue: of the kinds.
        kind: the name of one.
        fields: `name`, `priority`, `run_at`, `idempotency_key`, and `args.…` for each argument.

    Raises:
        Problem: 422 a field is wrong; it names each as the form does.
    """
    schema = new_tasks.known(catalogue, kind).arguments.schema
    given: dict[str, Any] = {"kind": kind, "args": {}}
    wrong: list[tuple[str, str]] = []
    for field, text in fields.items():
        try:
            if field.startswith(_ARGUMENT):
                _argument(given["args"], field.removeprefix(_ARGUMENT), text, schema)
            elif field in _OWN:
                _own(given, field, text)
            else:
                wrong.append((field, "there is no such field"))
        except ValueError as error:
            wrong.append((field, str(error)))
    if wrong:
        raise bodies.invalid(wrong)
    try:
        task = new_tasks.NewTask.model_validate(given)
    except ValidationError as error:
        raise bodies.invalid(bodies.complaints(error)) from error
    return new_tasks.asked(catalogue, task)


def by_field(catalogue: Catalogue, kind: str, problem: Problem) -> dict[str, str]:
    """Return what is wrong by the fields that a person sees; nothing if that is not all.

    A complaint about a part of a value, such as `args.many.0`, is one about its field.
    """
    arguments = new_tasks.known(catalogue, kind).arguments.names
    seen = {*_SEEN, *(f"{_ARGUMENT}{name}" for name in arguments)}
    found: dict[str, str] = {}
    for each in problem.more.get("errors", ()):
        parts = each["field"].split(".")
        field = ".".join(parts[:2] if each["field"].startswith(_ARGUMENT) else parts)
        if field not in seen:
            return {}
        found[field] = each["reason"]
    return found


def _own(given: dict[str, Any], field: str, text: str) -> None:
    if text == "":
        return
    if field == "priority":
        given[field] = _integer(text)
    elif field == "run_at" and _WITHOUT_ZONE.fullmatch(text):
        given[field] = f"{text}Z"
    else:
        given[field] = text


def _argument(args: dict[str, Any], name: str, text: str, schema: _Schema) -> None:
    """Add an argument, unless it was left out."""
    declared = schema.get("properties", {}).get(name)
    if declared is None:
        raise ValueError("the kind takes no such argument")
    if text == "" and name not in schema.get("required", ()):
        return
    args[name] = _typed(text, declared, schema.get("$defs", {}))


def _typed(text: str, schema: _Schema, shared: _Schema) -> Any:
    """Return the value that a text stands for where the schema stands.

    Raises:
        ValueError: it can't be one; the message says what is wanted.
    """
    while "$ref" in schema:
        schema = shared[schema["$ref"].rpartition("/")[2]]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return _one_of(text, choices, shared)
    if "const" in schema or "enum" in schema:
        return _listed(text, schema.get("enum", [schema.get("const")]))
    return _TYPES.get(schema.get("type", ""), _json)(text)


def _one_of(text: str, choices: list[_Schema], shared: _Schema) -> Any:
    """Return the value as the first of several types that it can have."""
    if text == "" and {"type": "null"} in choices:
        return None
    reasons = []
    for choice in choices:
        try:
            return _typed(text, choice, shared)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError(", or ".join(reasons))


def _listed(text: str, values: list[Any]) -> Any:
    for value in values:
        if text == (value if isinstance(value, str) else bodies.text(value)):
            return value
    raise ValueError("one of " + ", ".join(map(str, values)))


def _string(text: str) -> str:
    return text.replace("\r\n", "\n")  # which is how browsers send a line's end


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", text.strip()):
        raise ValueError("a whole number")
    return int(text)


def _number(text: str) -> Any:
    value = _json(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number")  # noqa: TRY004 - what callers expect of a text
    return value


def _boolean(text: str) -> bool:
    if text not in ("true", "on", "false"):
        raise ValueError("true or false")
    return text != "false"


def _null(text: str) -> None:
    if text not in ("", "null"):
        raise ValueError("nothing")


def _json(text: str) -> Any:
    try:
        return bodies.value(text)
    except ValueError as error:
        raise ValueError(f"JSON: {error}") from error


_TYPES: dict[str, Callable[[str], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "null": _null,
}
