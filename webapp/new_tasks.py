"""New tasks: what somebody asks for, checked before anything is stored."""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, NotRequired

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
    with_config,
)
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict

from cluster.arguments import ArgumentError
from cluster.job import Catalogue, Job
from webapp import bodies, idempotency
from webapp.problems import Problem

DEFAULT_KIND = "processing"
"""The kind that waits `processing_time` seconds."""

_LARGEST_BATCH = 10_000
_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
_FIRST_YEAR, _LAST_YEAR = 1970, 2999
_LONGEST_TIME = 64
"""Characters. A fraction may have any number of digits, and what was read is remembered."""
_TIMES = ("run_at", "deadline")
_NO_ARGUMENTS: dict[str, Any] = {}


def _text(value: object) -> object:
    if not (isinstance(value, str) and _RFC3339.match(value) and len(value) <= _LONGEST_TIME):
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
        _order(self.run_at, self.deadline)
        return self


def _order(run_at: datetime | None, deadline: datetime | None) -> None:
    for name, moment in (("run_at", run_at), ("deadline", deadline)):
        if moment and not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            raise ValueError(f"{name}: a year from {_FIRST_YEAR} to {_LAST_YEAR}")
    if run_at and deadline and deadline <= run_at:
        raise ValueError("deadline: it has to be after run_at")


def _rows(fields: dict[str, FieldInfo]) -> Any:
    """Return the shape of tasks that stay dictionaries, with their times as they came."""
    shapes: dict[str, Any] = {}
    for name, field in fields.items():
        shape: Any = Any if name in _TIMES else field.annotation
        for rule in field.metadata:
            shape = Annotated[shape, rule]
        shapes[name] = shape if field.is_required() else NotRequired[shape]
    row: Any = TypedDict("row", shapes)  # type: ignore[misc] # its fields come at run time
    return list[with_config(ConfigDict(extra="forbid", strict=True))(row)]  # type: ignore[misc]


@lru_cache(1000)
def _moment(text: str | None) -> datetime | None:
    """Read a time; those of a batch are often the same."""
    return _MOMENT.validate_python(text)


_MOMENT: TypeAdapter[datetime | None] = TypeAdapter(Moment | None)
_ONE = TypeAdapter(NewTask)
_ROWS: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(_rows(NewTask.model_fields))

_Many = Annotated[list[NewTask], Field(min_length=1, max_length=_LARGEST_BATCH)]


class NewTasks(BaseModel):
    """Many tasks, in an object."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    tasks: _Many
    """In the order of their ids."""


Batch = _Many | NewTasks
"""What somebody asks for who asks for many."""


def batch(catalogue: Catalogue, data: object) -> Sequence[dict[str, Any]]:
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
        return _together(catalogue, data)
    except (Problem, ValueError, TypeError):
        return _one_by_one(catalogue, data)


def _one_by_one(catalogue: Catalogue, tasks: list[Any]) -> list[dict[str, Any]]:
    """Check tasks as if each had come alone: the judge of what is wrong, and where.

    Raises:
        Problem: 422 a field of a task is wrong.
    """
    checked: list[NewTask] = []
    wrong: list[tuple[str, str]] = []
    for place, task in enumerate(tasks):
        try:
            checked.append(_ONE.validate_python(task))
        except ValidationError as error:
            wrong += bodies.complaints(error, "tasks", place)
        if len(wrong) > bodies.MOST_COMPLAINTS:
            break  # nobody reads more, and to find all can take seconds
    if wrong:
        raise bodies.invalid(wrong)
    return [asked(catalogue, task, "tasks", place) for place, task in enumerate(checked)]


def _together(catalogue: Catalogue, tasks: list[Any]) -> list[dict[str, Any]]:
    """Check tasks all at once, for a third of what it costs one by one; by the same rules.

    Raises:
        Problem, ValueError, TypeError: one may be wrong; it does not matter which, nor how.
    """
    rows = _ROWS.validate_python(tasks)
    arguments: dict[str, list[Any]] = {}
    for row in rows:
        if "run_at" in row or "deadline" in row:
            _read_times(row)
        arguments.setdefault(row.setdefault("kind", DEFAULT_KIND), []).append(_arguments(row))
    for kind, values in arguments.items():
        known(catalogue, kind).arguments.check(orjson.dumps(values))
    return rows


def _read_times(row: dict[str, Any]) -> None:
    for name in _TIMES:
        if name in row:
            row[name] = _moment(row[name])
    _order(row.get("run_at"), row.get("deadline"))


def _arguments(row: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a row, with its `processing_time` put where it is stored.

    A row is given no dictionary that it can do without: the garbage collector leaves alone what
    holds none, and on account of ten thousand others it would walk the whole process.
    """
    args: dict[str, Any] = row.get("args", _NO_ARGUMENTS)
    seconds = row.pop("processing_time", None)
    if seconds is not None:
        if "processing_time" in args:
            raise ValueError("processing_time: it is in args as well")
        args = row["args"] = {**args, "processing_time": seconds}
    if "idempotency_key" in row:
        row["args"] = args  # which are a part of what the key stands for
    return args


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
