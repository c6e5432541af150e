"""What the API is, said beside the code that answers: parameters, body, answers, problems.

`document.py` makes the OpenAPI document of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import falcon.routing

from webapp import idempotency

Responder = TypeVar("Responder", bound=Callable[..., None])
Tag = Literal["account", "jobs", "tasks", "runs", "remote workers", "service"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a request.

    Attributes:
        name: as a client writes it.
        place: where it stands.
        text: what it means.
        schema: JSON Schema.
        example: a value that is accepted.
    """

    name: str
    place: Literal["query", "header", "path"]
    text: str
    schema: Mapping[str, Any]
    example: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no problem.

    Attributes:
        text: when it is given.
        shape: a type that pydantic understands.
        example: a whole body.
        headers: names of `HEADERS` that it may carry.
    """

    text: str
    shape: Any
    example: Any
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """What a responder does; its summary and description are its docstring.

    Attributes:
        tag: the group it belongs to.
        answers: by status.
        problems: names of `known_problems.KNOWN`, besides those of every operation.
        parameters: of query and header; those of the path are known by their names.
        body: the model of the request's body, if it reads one.
        examples: bodies that are accepted, by a line that says what for.
        database: whether it asks the database.
    """

    tag: Tag
    answers: Mapping[int, Answer]
    problems: Sequence[str] = ()
    parameters: Sequence[Parameter] = ()
    body: Any = None
    examples: Mapping[str, Any] = field(default_factory=dict)
    database: bool = True


_operations: dict[Callable[..., Any], Operation] = {}


def describes(
    tag: Tag, answers: Mapping[int, Answer], **more: Any
) -> Callable[[Responder], Responder]:
    """Say what a responder does.

    Args:
        tag: the group it belongs to.
        answers: by status.
        **more: further fields of `Operation`.
    """

    def note(responder: Responder) -> Responder:
        _operations[responder] = Operation(tag, answers, **more)
        return responder

    return note


def operation(responder: Callable[..., Any]) -> Operation | None:
    """Return what a responder does, or None if nobody said so: it is no part of the API."""
    return _operations.get(getattr(responder, "__func__", responder))


class Router(falcon.routing.CompiledRouter):
    """Falcon's router, which remembers what was added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[tuple[str, object]] = []

    def add_route(self, uri_template: str, resource: object, **kwargs: Any) -> None:
        """Add a route."""
        super().add_route(uri_template, resource, **kwargs)
        self.added.append((uri_template, resource))


def count(name: str, text: str, default: int, largest: int) -> Parameter:
    """Return a parameter of the query that is a number from 1 on."""
    schema = {"type": "integer", "minimum": 1, "maximum": largest, "default": default}
    return Parameter(name, "query", text, schema, min(default, 10))


def cursor(example: str) -> Parameter:
    """Return the parameter of the query that says where the page before ended."""
    text = "Where the page before ended, as its `Link` header says; without it, the first page."
    return Parameter("cursor", "query", text, {"type": "string"}, example)


def one_of(name: str, text: str, values: Sequence[str]) -> Parameter:
    """Return a parameter of the query that is one of these words."""
    return Parameter(name, "query", text, {"type": "string", "enum": list(values)}, values[0])


def no_default(schema: dict[str, Any]) -> None:
    """Leave a default out of a field's schema."""
    del schema["default"]


IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "The same request under the same key answers as the first did, for a day.",
    {"type": "string", "pattern": idempotency.PATTERN},
    "order-4711",
)

HEADERS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "Link": (
        "The next page, with `rel=next` (RFC 8288), if there may be one.",
        {"type": "string"},
        "</tasks?limit=10&cursor=01a1f0ee-3c1b-7d3a-9f5e-1b2c3d4e5f60>; rel=next",
    ),
    "Location": (
        "The path of what was made.",
        {"type": "string"},
        "/tasks/01a1f0ee-3c1b-7d3a-9f5e-1b2c3d4e5f60",
    ),
    "Retry-After": (
        "Seconds after which to try again.",
        {"type": "string", "pattern": "^[0-9]+$"},
        "1",
    ),
}
"""What each header of an answer means, its schema, an example."""

INT64 = {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1}
UUID = {"type": "string", "format": "uuid"}

IN_PATH: Mapping[str, Parameter] = {
    "user": Parameter("userId", "path", "Whose account it is.", INT64, 1),
    "name": Parameter("name", "path", "The job's name.", {"type": "string"}, "wait"),
    "kind": Parameter("kind", "path", "The kind's name.", {"type": "string"}, "count-words"),
    "task": Parameter(
        "task_id", "path", "The task's id.", UUID, "01a1f0ee-3c1b-7d3a-9f5e-1b2c3d4e5f60"
    ),
    "run": Parameter(
        "run_id", "path", "The run's id.", UUID, "01a1f0ee-3c1b-7d3a-9f5e-1b2c3d4e5f60"
    ),
}
"""Parameters of paths, by the name that the route table gives them."""
