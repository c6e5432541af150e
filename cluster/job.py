"""Jobs: functions with settings, collected in a catalogue when their modules are imported."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cluster import schedule as schedules

Function = TypeVar("Function", bound=Callable[..., object])


class JobError(Exception):
    """A declaration makes no sense; the message names the job, the setting and the reason."""


class Job(BaseModel):
    """A named function with a schedule and settings; see `Catalogue.job` for what they mean."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,99}$")
    function: Callable[..., object]
    schedule: str
    timezone: str = "UTC"
    timeout: float = Field(3600.0, gt=0)
    max_retries: int = Field(3, ge=1, le=100)
    retry_delay: float = Field(1.0, ge=0)
    priority: int = Field(0, ge=-100, le=100)
    spread: float = Field(0.1, ge=0, le=60)
    at_once: bool = False

    @field_validator("timeout", "retry_delay", "spread", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> float:
        return schedules.seconds(value)

    @field_validator("function")
    @classmethod
    def _callable_by_us(cls, value: Callable[..., object]) -> Callable[..., object]:
        if inspect.iscoroutinefunction(value):
            raise ValueError("a job is a plain function, not a coroutine")
        required = [
            parameter
            for parameter in inspect.signature(value).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        if len(required) > 1:
            raise ValueError("it takes one argument at most, the run")
        return value

    @model_validator(mode="after")
    def _schedule_is_one(self) -> "Job":
        schedules.parse(self.schedule, self.timezone)
        return self

    @property
    def wants_run(self) -> bool:
        """Whether the function takes the `Run`."""
        return bool(inspect.signature(self.function).parameters)

    @property
    def path(self) -> str:
        """Where the function stands, for people; nothing is ever imported by this name."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def description(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    def retry_after(self, failures: int) -> float:
        """Return the seconds to wait after the given number of failures: doubled each time."""
        return float(min(self.retry_delay * 2 ** (failures - 1), 3600.0))


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
                second attempt, doubled each time, default 1 s. `priority`: higher first.
                `spread`: see `spread`, default 100 ms. `at_once`: due as soon as it is first
                seen, not only at its first firing.

        Raises:
            JobError: an unknown or malformed setting, or a name that is taken.
        """

        def declare(function: Function) -> Function:
            self._add(_build(function, every, settings))
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
        if "schedule" in settings:
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
