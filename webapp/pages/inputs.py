"""Inputs: the fields of a form, made from the JSON schema of a kind's arguments (pure)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_SHORT = 200
"""Characters of a text that stand in one line."""
_Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Input:
    """A field of a form.

    Attributes:
        name: of the argument.
        shape: `number`, `select`, `line` or `area`.
        required: whether the kind insists on it.
        hint: what may stand in it, in words.
        attributes: `min`, `max`, `step` and `maxlength`, as HTML has them.
        options: of a select, the value and what is shown.
    """

    name: str
    shape: str
    required: bool
    hint: str
    attributes: Mapping[str, Any]
    options: list[tuple[str, str]]


def inputs(schema: _Schema) -> list[Input]:
    """Return a field for each argument, in their order.

    Args:
        schema: of the object of all arguments, as pydantic writes it.
    """
    shared, required = schema.get("$defs", {}), schema.get("required", ())
    return [
        _input(name, declared, shared, required=name in required)
        for name, declared in schema.get("properties", {}).items()
    ]


def _input(name: str, declared: _Schema, shared: _Schema, *, required: bool) -> Input:
    schema = _resolved(declared, shared)
    words = [declared.get("description") or schema.get("description") or "", _limits(schema)]
    hint = "; ".join(word for word in words if word)
    options = _options(schema)
    if options:
        return Input(name, "select", required, hint, {}, options)
    attributes: dict[str, Any] = {}
    shape = "area"
    if schema.get("type") in ("integer", "number"):
        shape = "number"
        attributes = {"min": schema.get("minimum"), "max": schema.get("maximum")}
        attributes["step"] = 1 if schema["type"] == "integer" else "any"
    elif schema.get("type") == "string":
        attributes = {"maxlength": schema.get("maxLength")}
        short = schema.get("maxLength", _SHORT + 1) <= _SHORT or "pattern" in schema
        shape = "line" if short else "area"
    there = {key: value for key, value in attributes.items() if value is not None}
    return Input(name, shape, required, hint, there, [])


def _resolved(schema: _Schema, shared: _Schema) -> _Schema:
    """Return the schema that stands behind a name, or beside `null`."""
    while "$ref" in schema:
        schema = shared[schema["$ref"].rpartition("/")[2]]
    choices = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return _resolved(choices[0], shared) if len(choices) == 1 else schema


def _options(schema: _Schema) -> list[tuple[str, str]]:
    # A box to tick could not say that an argument was left out.
    if schema.get("type") == "boolean":
        return [("true", "yes"), ("false", "no")]
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    texts = [each if isinstance(each, str) else json.dumps(each) for each in values]
    return [(text, text) for text in texts]


_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "array": "JSON, an array",
    "object": "JSON, an object",
}


def _limits(schema: _Schema) -> str:
    """Return in words what a schema allows."""
    choices = [_KINDS.get(each.get("type", ""), "text") for each in schema.get("anyOf", ())]
    if choices:
        return " or ".join(choices)
    if schema.get("type") == "boolean" or "enum" in schema or "const" in schema:
        return ""
    kind = _KINDS.get(schema.get("type", ""), "JSON of any kind")
    if schema.get("type") == "string":
        kind = "text"
    return " ".join([kind, *_bounds(schema)])


def _bounds(schema: _Schema) -> Iterator[str]:
    for low, high, unit in _RANGES:
        least, most = schema.get(low), schema.get(high)
        if least is not None and most is not None:
            yield f"from {least:,} to {most:,}{unit}"
        elif least is not None or most is not None:
            limit, side = (least, "least") if most is None else (most, "most")
            yield f"of {limit:,}{unit.removesuffix('s') if limit == 1 else unit} at {side}"
    for name, word in _OTHERS.items():
        if name in schema:
            yield f"{word} {schema[name]}"


_RANGES = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
)
_OTHERS = {
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
    "pattern": "that matches",
    "format": "in the format",
}
