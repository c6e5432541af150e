"""Answers: what each one looks like, field by field; the documentation of the API is made of this.

Nothing is checked against it while serving: the rows are the database's. The tests check it.
"""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Outcome = Literal[
    "completed", "failed", "crashed", "timed_out", "cancelled", "interrupted", "fenced", "skipped",
    "missed",
]  # fmt: skip
Progress = Annotated[float, Field(ge=0, le=1)]
Seconds = float
Whole = Annotated[int, Field(ge=0)]


class _Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Account(_Shape):
    """An account, and what is on it."""

    userId: int  # noqa: N815 - the users' own word
    """Whose it is."""
    balance: Whole
    """Never below zero."""


class LastRun(_Shape):
    """How the last finished attempt of a job went."""

    outcome: Outcome
    """How it ended."""
    started_at: datetime | None
    """Null if it never started."""
    finished_at: datetime
    """When it ended."""
    duration_seconds: Seconds | None
    """How long it took."""
    worker: str | None
    """Who performed it, as `host:pid`."""


class Job(_Shape):
    """A job with a schedule, as it stands."""

    name: str
    """Unique."""
    function: str
    """The Python function, as `module.name`."""
    description: str
    """The first line of the function's docstring."""
    schedule: str
    """A cron expression of five or six fields, an alias such as `@daily`, or `@every 90s`."""
    timezone: str
    """The IANA zone of the schedule."""
    state: Literal["running", "waiting", "paused"]
    """What it does now."""
    worker: str | None
    """Who runs it, as `host:pid`; null while it waits."""
    run_id: UUID | None
    """The planned run, or the one under way; see `GET /runs/{run_id}`."""
    attempt: Whole | None
    """Attempts of that run so far."""
    started_at: datetime | None
    """When the attempt under way started."""
    elapsed_seconds: Seconds | None
    """Since then."""
    progress: Progress | None
    """0 to 1, if the function tells it."""
    next_run_at: datetime | None
    """The next start: of the run that waits, or of the firing after the one under way."""
    waiting_for: Literal["paused", "no_worker", "retry", "schedule", "free_worker"] | None
    """Why it waits, in a word; null while it runs."""
    why: str | None
    """Why it waits, in a sentence; null while it runs."""
    last_run: LastRun | None
    """Null if there was none yet."""


class _Settings(_Shape):
    timeout_seconds: Seconds
    """Then a run is told to stop, and counts as a failure."""
    max_retries: Whole
    """Failures after which a run is given up."""
    retry_delay_seconds: Seconds
    """Before the second attempt; doubled each time."""
    retry_longest_seconds: Seconds
    """The delay at most."""
    retry_jitter: float
    """The part of the delay that is left to chance."""
    priority: int
    """Higher first."""
    spread_seconds: Seconds
    """How strictly the load is levelled."""
    isolation: Literal["thread", "process"]
    """Where the function is performed."""
    memory_mib: int | None
    """What the function may take, in a process of its own."""


class JobSettings(_Settings):
    """What the code says of a job."""

    at_once: bool
    """Whether it is due as soon as it is first seen."""
    catch_up: Literal["one", "all", "none"]
    """What is made up for after a time in which nothing ran."""


class JobInFull(Job):
    """A job with its settings."""

    declared_schedule: str
    """The code's schedule; `schedule` is an operator's if the two differ."""
    paused: bool
    """Whether an operator has paused it."""
    settings: JobSettings
    """The code's."""


class RunNow(_Shape):
    """The run that is due now."""

    run_id: UUID
    """See `GET /runs/{run_id}`."""
    job: str
    """The job's name."""


class Firing(_Shape):
    """A finished attempt of a job, or a firing that was lost."""

    run_id: UUID
    """Of the run; its attempts have the same."""
    attempt: Whole
    """Counted from 1; 0 if it never started."""
    worker: str | None
    """Who performed it."""
    due_at: datetime
    """The firing."""
    due_until: datetime | None
    """Of lost firings that share a row: all from `due_at` until then."""
    started_at: datetime | None
    """Null if it never started."""
    finished_at: datetime
    """When it ended."""
    outcome: Outcome
    """How it ended."""
    error: str | None
    """The reason, in a line or a few."""
    late_seconds: Seconds | None
    """From the firing to the start."""
    duration_seconds: Seconds | None
    """From the start to the end."""


class Run(_Shape):
    """A run, made by a schedule or asked for as a task."""

    run_id: UUID
    """The task's id, if it is a task."""
    job: str
    """The job's name, or the task's kind."""
    state: Literal["waiting", "running", "over"]
    """Where it stands."""
    attempt: Whole
    """Attempts so far."""
    worker: str | None
    """Who performs it, or has last."""
    due_at: datetime
    """The firing, or when the task was asked for."""
    not_before: datetime | None
    """While it lives, the moment before which it does not start."""
    started_at: datetime | None
    """Of the last attempt."""
    finished_at: datetime | None
    """Of the last attempt, once the run is over."""
    outcome: Outcome | None
    """How it ended, once it is over."""
    error: str | None
    """Of the last attempt."""
    progress: Progress | None
    """While it runs."""
    cancelled: bool
    """Whether it was told to stop."""
    why: str | None
    """Why it waits, in a sentence; null when it does not."""


class TaskMade(_Shape):
    """The task that was stored."""

    task_id: UUID
    """See `GET /tasks/{task_id}`."""


class Task(_Shape):
    """A task, wherever it is in its life."""

    task_id: UUID
    """A UUID of version 7: sorts by the moment of its creation."""
    name: str
    """For people."""
    processing_time: Any
    """The argument of that name; null if there is none."""
    status: Literal[1, 2, 3, 4]
    """The number of `status_name`."""
    status_name: Literal["NEW", "PROCESSING", "COMPLETED", "ERROR"]
    """NEW waits, PROCESSING is under way, COMPLETED and ERROR are over."""
    kind: str
    """Which function."""
    attempt: Whole
    """Attempts so far."""
    failures: Whole | None
    """Of these, the ones in which the function failed."""
    worker: str | None
    """Who performs it, or has last."""
    priority: int | None
    """Higher first."""
    max_retries: Whole | None
    """Failures after which it is given up; null: as its kind says."""
    created_at: datetime
    """When it was asked for."""
    run_at: datetime
    """Not before this moment."""
    deadline: datetime | None
    """Not started by then, it is dropped as `missed`."""
    started_at: datetime | None
    """Of the last attempt."""
    finished_at: datetime | None
    """Once it is over."""
    outcome: Outcome | None
    """Once it is over."""
    error: str | None
    """Of the last attempt."""
    progress: Progress | None
    """0 to 1, if the function tells it."""


class TaskInFull(Task):
    """A task with its arguments and its result."""

    args: dict[str, Any]
    """The arguments of its function."""
    result: Any
    """What the function returned, any JSON; null until then."""
    why: str | None
    """Why it waits, in a sentence; null when it does not."""


class Attempt(_Shape):
    """A finished attempt of a task."""

    attempt: Whole
    """Counted from 1; 0 if it was dropped before it started."""
    worker: str | None
    """Who performed it."""
    started_at: datetime | None
    """Null if it never started."""
    finished_at: datetime
    """When it ended."""
    outcome: Outcome
    """How it ended."""
    error: str | None
    """The reason, in a line or a few."""
    duration_seconds: Seconds | None
    """From the start to the end."""


class Said(_Shape):
    """Some lines that an attempt has said; put together they are its log."""

    attempt: Whole
    """Counted from 1."""
    at: datetime
    """When they were written down."""
    text: str
    """Lines with time and level, each with its end; or a part of a very long one."""


class Stack(_Shape):
    """Where a run was when somebody asked."""

    attempt: Whole
    """Counted from 1."""
    worker: str
    """Who performs it, as `host:pid`."""
    asked_at: datetime
    """When somebody has last asked."""
    answered_at: datetime | None
    """Null until the worker has answered."""
    stack: str | None
    """The calls in Python's usual form, the last one last; null until the worker has answered."""


class KindSettings(_Settings):
    """What the code says of a kind of tasks."""

    remote: bool
    """Whether only remote workers perform it."""


class Kind(_Shape):
    """A kind of tasks."""

    name: str
    """Unique."""
    function: str
    """The Python function, as `module.name`."""
    description: str
    """The first line of the function's docstring."""
    settings: KindSettings
    """The code's."""
    max_running: int | None
    """Runs at once in the whole cluster; null: any number."""
    paused: bool
    """Whether an operator has paused it."""
    args: dict[str, Any]
    """A JSON Schema of the arguments."""


class Retried(_Shape):
    """What became of a wish to try all failed tasks again."""

    retried: Whole
    """Tasks that wait again."""
    more: bool
    """Whether time was over before there were none left: ask again."""


class Action(_Shape):
    """What somebody has changed."""

    id: UUID
    """Grows with time."""
    at: datetime
    """When."""
    who: str
    """The name of the token, or `local` where there are no tokens."""
    what: Literal[
        "run", "pause", "resume", "schedule", "reset", "cancel", "retry", "retry-all", "create"
    ]
    """What it was."""
    target: str
    """What it was done to: `job:NAME`, `kind:NAME` or `run:ID`; a task is a run."""
    detail: dict[str, Any]
    """What else there is to know, such as the schedule before."""


class Worker(_Shape):
    """A worker that holds a lease; remote ones as well."""

    id: UUID
    """Made when it registered."""
    name: str
    """`host:pid`, or the name that a remote worker gave."""
    host: str
    """The first part of the name."""
    pid: int
    """0 for a remote worker."""
    started_at: datetime
    """When it registered."""
    load: Whole
    """Runs that it has under way."""
    lease_until: datetime
    """Silent for longer, and its runs are given to others."""
    leaving: bool
    """Whether it was told to end."""


class Claim(_Shape):
    """A task that was given to a remote worker, for one attempt."""

    task_id: UUID
    """The task's id."""
    kind: str
    """Which function."""
    name: str
    """For people."""
    args: dict[str, Any]
    """The arguments."""
    attempt: Annotated[int, Field(ge=1)]
    """Counted from 1."""
    failures: Whole
    """Attempts so far in which the function failed."""
    crashes: Whole
    """Attempts so far in which the worker died."""
    max_retries: Whole | None
    """Of a task that has its own."""
    token: UUID
    """Names this attempt; every word about it carries the token."""
    fence: int
    """Grows with every attempt of any task; outside systems can refuse older ones."""
    due_at: datetime
    """When it was due."""
    started_at: datetime
    """The moment of the claim."""
    timeout_seconds: Seconds | None
    """After which the worker stops it and reports `timed_out`."""
    lease_seconds: Seconds
    """Silent for so long, and the task is given to somebody else."""


class Beat(_Shape):
    """What a heartbeat brought."""

    lease_until: datetime
    """Silent for longer, and the task is given to somebody else."""
    cancelled: bool
    """The task shall stop."""
    late: bool
    """A word with a later sequence was here before; this one changed nothing."""


class Health(_Shape):
    """The process serves."""

    status: Literal["ok"]
    """Nothing else."""


class Ready(_Shape):
    """The process can work."""

    status: Literal["ready"]
    """Nothing else."""


class Missing(_Shape):
    """What a process that can't work lacks."""

    database: str
    """Why it does not answer."""


class NotReady(_Shape):
    """The process serves, but can't work."""

    status: Literal["not ready"]
    """Nothing else."""
    missing: Missing
    """What it lacks."""
