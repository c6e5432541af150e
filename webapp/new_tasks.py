"""New tasks: what somebody asks for, checked before anything is stored."""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

import orjson
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from cluster.arguments import ArgumentError
from cluster.job import Catalogue, Job
from webapp import bodies, idempotency

DEFAULT_KIND = "processing"
"""The kind that waits `processing_time` seconds."""

_LARGEST_BATCH = 10_000
_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
_FIRST_YEAR, _LAST_YEAR = 1970, 2999


def _text(value: object) -> object:
    if not (isinstance(value, str) and _RFC3339.match(value)):
        raise ValueError("a time is text such as 2027-01-31T12:00:00Z")
    return value


Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_text)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Key = Annotated[str, StringConstraints(pattern=idempotency.PATTERN)]


class NewTask(BaseModel):
    """What somebody asks for; `processing_time` is an argument like those in `args`."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    name: Name
    """For people."""
    processing_time: int | None = None
    """An argument of the kind `processing`: seconds that it waits; it fails when they are 13."""
    kind: str = Field(DEFAULT_KIND, max_length=100)
    """Which function; `GET /kinds` lists them."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Its arguments."""
    priority: int | None = Field(None, ge=-100, le=100)
    """Higher first; null: the kind's."""
    run_at: Moment | None = None
    """Not before this moment; null: now."""
    max_retries: int | None = Field(None, ge=0, le=100)
    """Failures after which it is given up; null: the kind's."""
    idempotency_key: Key | None = None
    """As the header: the same request again gives the same task, for a day."""
    deadline: Moment | None = None
    """Not started by then, it is dropped: ERROR, outcome `missed`."""

    @model_validator(mode="after")
    def _times_make_sense(self) -> "NewTask":
        for name in ("run_at", "deadline"):
            moment = getattr(self, name)
            if moment and not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
                raise ValueError(f"{name}: a year from {_FIRST_YEAR} to {_LAST_YEAR}")
        if self.run_at and self.deadline and self.deadline <= self.run_at:
            raise ValueError("deadline: it has to be after run_at")
        return self


_BATCH = TypeAdapter(list[NewTask])

_Many = Annotated[list[NewTask], Field(min_length=1, max_length=_LARGEST_BATCH)]


class NewTasks(BaseModel):
    """Many tasks, in an object."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    tasks: _Many
    """In the order of their ids."""


Batch = _Many | NewTasks
"""What somebody asks for who asks for many."""


def batch(catalogue: Catalogue, data: object) -> Iterator[dict[str, Any]]:
    """Check the tasks of an array, alone or as `{"tasks": …}`; give them as they are stored.

    Raises:
        Problem: 422 a field of a task is wrong, or there are too many.
    """
    if isinstance(data, dict) and set(data) == {"tasks"}:
        data = data["tasks"]
    if not isinstance(data, list):
        raise bodies.invalid([("tasks", "an array of tasks, alone or as {'tasks': …}")])
    if not 1 <= len(data) <= _LARGEST_BATCH:
        raise bodies.invalid([("tasks", f"1 to {_LARGEST_BATCH} tasks, not {len(data)}")])
    try:
        checked = _BATCH.validate_python(data)
    except ValidationError as error:
        raise bodies.invalid(bodies.complaints(error, "tasks")) from error
    for place, task in enumerate(checked):
        yield asked(catalogue, task, "tasks", place)


def known(catalogue: Catalogue, kind: str, *at: int | str) -> Job:
    """Return a kind of tasks.

    Raises:
        Problem: 422 there is none of that name.
    """
    job = catalogue.get(kind)
    if job is None or job.schedule is not None:
        there = ", ".join(job.name for job in catalogue if job.schedule is None) or "none"
        field = ".".join(map(str, (*at, "kind")))
        raise bodies.invalid([(field, f"there is no kind {kind!r}; there are {there}")])
    return job


def asked(catalogue: Catalogue, task: NewTask, *at: int | str) -> dict[str, Any]:
    """Return a task as the SQL function `enqueue` takes it, with its arguments checked.

    Raises:
        Problem: 422 there is no such kind, or an argument is wrong.
    """
    job = known(catalogue, task.kind, *at)
    args = task.args
    if task.processing_time is not None:
        if "processing_time" in args:
            raise bodies.invalid([(_path(at, "processing_time"), "it is in args as well")])
        args = {**args, "processing_time": task.processing_time}
    try:
        text, huge = orjson.dumps(args).decode(), []
    except TypeError:
        text, huge = json.dumps(args), [name for name, value in args.items() if not _fits(value)]
    try:
        job.arguments.read(text)
    except ArgumentError as error:
        found = [(_path(at, path), reason) for path, reason in error.problems]
        raise bodies.invalid(found) from error
    if huge:
        raise bodies.invalid([(_path(at, name), "a number of more than 64 bits") for name in huge])
    return {**task.model_dump(exclude={"processing_time"}, exclude_none=True), "args": args}


def _fits(value: object) -> bool:
    """Whether it can be sent back: numbers of more than 64 bits can't."""
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _path(at: tuple[int | str, ...], argument: str) -> str:
    """Return where a client writes an argument."""
    inside = () if argument == "processing_time" else ("args",)
    return ".".join(map(str, (*at, *inside, argument)))
