"""Jobs: functions with settings, collected in a catalogue when their modules are imported."""

import importlib
import inspect
import random
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cluster import schedule as schedules
from cluster.arguments import Arguments

Function = TypeVar("Function", bound=Callable[..., object])


_YEAR = 366 * 86400.0
"""Seconds; a delay that the database can't add to its clock would block whoever writes it."""

_TOO_LATE = 60.0
"""Seconds; more than a restart takes, and less than most schedules' distance."""


class JobError(Exception):
    """A declaration makes no sense; the message names the job, the setting and the reason."""


class Job(BaseModel):
    """A named function with settings; see `Catalogue.job` and `Catalogue.task` for what they mean.

    With a schedule it runs by itself. Without one it is a kind of tasks, and its function may take
    arguments, which whoever asks for a task gives as JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,99}$")
    function: Callable[..., object]
    schedule: str | None = None
    timezone: str = "UTC"
    timeout: float = Field(3600.0, gt=0)
    max_retries: int = Field(3, ge=0, le=100)
    retry_delay: float = Field(1.0, ge=0, le=_YEAR)
    retry_longest: float = Field(3600.0, ge=0, le=_YEAR)
    retry_jitter: float = Field(0.1, ge=0, le=1)
    priority: int = Field(0, ge=-100, le=100)
    spread: float = Field(0.1, ge=0, le=60)
    max_running: int | None = Field(None, ge=1, le=100_000)
    isolation: Literal["thread", "process"] = "thread"
    memory_mib: int | None = Field(None, ge=64, le=2**30)
    remote: bool = False
    at_once: bool = False
    catch_up: Literal["one", "all", "none"] = "one"

    @field_validator("timeout", "retry_delay", "retry_longest", "spread", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> float:
        return schedules.seconds(value)

    @field_validator("function")
    @classmethod
    def _plain(cls, value: Callable[..., object]) -> Callable[..., object]:
        if inspect.iscoroutinefunction(value):
            raise ValueError("a job is a plain function, not a coroutine")
        return value

    @model_validator(mode="after")
    def _limited_apart(self) -> "Job":
        if self.memory_mib and self.isolation != "process":
            raise ValueError('memory_mib: only with isolation="process"')
        return self

    @model_validator(mode="after")
    def _callable_by_us(self) -> "Job":
        if self.schedule is None:
            assert self.arguments  # noqa: S101 - made here, so that what is wrong is said here
            if self.catch_up != "one":
                raise ValueError("catch_up is a setting of jobs with a schedule")
            return self
        schedules.parse(self.schedule, self.timezone)
        required = [
            parameter
            for parameter in inspect.signature(self.function).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        if len(required) > 1:
            raise ValueError("function: it takes one argument at most, the run")
        if self.remote or self.max_running:
            raise ValueError("remote and max_running are settings of kinds of tasks")
        return self

    @property
    def start_within(self) -> float | None:
        """Seconds after which a firing that has not started is missed; None if it can wait."""
        return _TOO_LATE if self.catch_up == "none" else None

    @cached_property
    def arguments(self) -> Arguments:
        """What a task of this kind takes."""
        return Arguments(self.function)

    def call(self, run: Any, args: str | None) -> object:
        """Call the function, with the run if it takes one, and return what it returns.

        Args:
            run: the `Run`.
            args: of a task, as JSON text; None for a scheduled run.

        Raises:
            ArgumentError: they don't fit the function.
        """
        if self.schedule is None:
            return self.function(**self.arguments.read(args or "{}", run))
        return (
            self.function(run) if inspect.signature(self.function).parameters else (self.function())
        )

    @property
    def path(self) -> str:
        """Where the function stands, for people; nothing is ever imported by this name."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    def retry_after(self, failures: int) -> float:
        """Return the seconds to wait after the given number of failures.

        Doubled each time, at most `retry_longest`, then moved at random by up to the part
        `retry_jitter` of it either way, so that what failed together does not come back together.
        """
        delay = min(self.retry_delay * 2.0 ** (failures - 1), self.retry_longest)
        return delay * random.uniform(1 - self.retry_jitter, 1 + self.retry_jitter)  # noqa: S311


class Catalogue:
    """The jobs that a process knows, by name, in the order of their declaration."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def job(
        self, *, every: str | float | None = None, **settings: Any
    ) -> Callable[[Function], Function]:
        """Declare the decorated function as a job; it may take a `Run` as its only argument.

        Args:
            every: an interval such as `"90s"`, in place of `schedule`.
            **settings: the fields of `Job`. `schedule`: a cron line, `@daily` or `@every 90s`.
                `timezone`: of the schedule, default UTC. `name`: default the function's.
                `timeout`: how long a run may take, default one hour. `max_retries`: failures
                in a row after which a firing is given up, default 3. `retry_delay`: before the
                second attempt, doubled each time up to `retry_longest`, default 1 s and 1 h.
                `retry_jitter`: the part of it that is left to chance, default 0.1. `priority`:
                higher first. `spread`: see `spread`, default 100 ms. `at_once`: due as soon as
                it is first seen, not only at its first firing. `catch_up`: what becomes of
                firings that passed while nothing could start them, or while the run before was
                under way: `one` run stands for all of them (default); `all` get a run each, one
                after another, the newest hundred at most; `none`, not even the first, once it
                is a minute late. `isolation`: `"process"` to
                perform it in a process of its own, which shares no interpreter lock with HTTP,
                and is killed if it does not stop by itself when it has to; default `"thread"`.
                `memory_mib`: with such a process, what the function may take on top of what
                its modules took; beyond, it gets a `MemoryError`.

        Raises:
            JobError: an unknown or malformed setting, or a name that is taken.
        """

        def declare(function: Function) -> Function:
            declared = _build(function, every, settings)
            if declared.schedule is None:
                raise JobError(f"job {declared.name!r}: schedule: a job has one; a task has none")
            self._add(declared)
            return function

        return declare

    def task(self, **settings: Any) -> Callable[[Function], Function]:
        """Declare the decorated function as a kind of tasks.

        Its parameters are the task's arguments, by their annotations; one that is called `run`
        gets the `Run`. What it returns is the task's result, and has to fit JSON.

        Args:
            **settings: as of `job`, but for the schedule, and `spread` is 0, for throughput.
                `max_running`: tasks of this kind at once in the whole cluster. `remote`: only
                workers that speak HTTP perform it, and the function's body is never called here.

        Raises:
            JobError: as of `job`, or a parameter has no annotation.
        """

        def declare(function: Function) -> Function:
            self._add(_build(function, None, {"spread": 0, "schedule": None, **settings}))
            return function

        return declare

    def load(self, modules: tuple[str, ...]) -> None:
        """Import the modules that declare jobs.

        Raises:
            JobError: a module is absent, or a declaration in it makes no sense.
        """
        for module in modules:
            try:
                importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                    raise
                raise JobError(
                    f"RONIN_JOBS names {module!r}, and there is no such module"
                ) from error

    def get(self, name: str) -> Job | None:
        """Return a job by name."""
        return self._jobs.get(name)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def __len__(self) -> int:
        return len(self._jobs)

    def _add(self, declared: Job) -> None:
        known = self._jobs.setdefault(declared.name, declared)
        if known is not declared:
            raise JobError(f"job {declared.name!r}: {known.path} has this name already")


def _build(function: Callable[..., object], every: object, settings: dict[str, Any]) -> Job:
    name = settings.get("name", getattr(function, "__name__", "?"))
    if every is not None:
        if settings.get("schedule"):
            raise JobError(f"job {name!r}: give it a schedule or every=, not both")
        settings = {
            **settings,
            "schedule": f"@every {every if isinstance(every, str) else f'{every}s'}",
        }
    try:
        return Job(**{"name": name, "function": function, **settings})
    except ValidationError as error:
        raise JobError("; ".join(f"job {name!r}: {_line(e)}" for e in error.errors())) from error


def _line(complaint: Any) -> str:
    reason = complaint["msg"].removeprefix("Value error, ")
    setting = ".".join(str(part) for part in complaint["loc"])
    if complaint["type"] == "extra_forbidden":
        known = ", ".join(sorted(set(Job.model_fields) - {"function"} | {"every"}))
        return f"{setting}: no such setting; there are {known}"
    return f"{setting}: {reason}" if setting else reason


catalogue = Catalogue()
"""What the modules named in RONIN_JOBS declare."""

job = catalogue.job
task = catalogue.task
