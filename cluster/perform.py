"""Perform: calls a job's function; whatever comes of it becomes a result."""

import traceback
from dataclasses import dataclass

from cluster.arguments import ArgumentError
from cluster.job import Job
from cluster.run import Discard, RetryIn, Run, RunStopped
from cluster.values import ValueMisfitError, kept, mended

_LONGEST = 8192
"""Characters kept of an error's text and of its traceback's end."""


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt's function came back.

    Attributes:
        outcome: as in the history.
        error: one line for people.
        traceback: its end, for the operator.
        value: what it returned, as JSON text.
        retry_in: seconds that it asked for.
        final: it shall not be tried again.
        written: its end is in the database already, by `Run.finish`.
    """

    outcome: str
    error: str | None = None
    traceback: str | None = None
    value: str | None = None
    retry_in: float | None = None
    final: bool = False
    written: bool = False


_COMPLETED = Result("completed")


def perform(job: Job, run: Run, args: str | None) -> Result:
    """Call the function, and say how it came back; raises nothing.

    Args:
        job: whose function.
        run: for the function.
        args: of a task, as JSON text.
    """
    try:
        value = job.call(run, args)
    except BaseException as error:  # noqa: BLE001 - SystemExit in a job must not end its thread
        result = raised(error, run)
    else:
        result = Result(run.stopped, "told to stop") if run.stopped else _returned(value)
    # What the function has committed is so, whatever it came to afterwards.
    return Result("completed", written=True) if run.finished else result


def raised(error: BaseException, run: Run) -> Result:
    """Return what an error makes of an attempt."""
    if isinstance(error, RunStopped) and run.stopped:
        return Result(run.stopped, "told to stop")
    if isinstance(error, ArgumentError):
        return Result("failed", storable(f"args: {error}"), final=True)
    text = storable("".join(traceback.format_exception_only(error)).strip())
    trace = storable("".join(traceback.format_exception(error))[-_LONGEST:])
    if isinstance(error, Discard | RetryIn):
        text = storable(_reason(error)) or text
    retry_in = error.seconds if isinstance(error, RetryIn) else None
    return Result("failed", text, trace, retry_in=retry_in, final=isinstance(error, Discard))


def _reason(error: Exception) -> str:
    """Return what was said with an error; it may hold something that can't be shown."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - then the traceback's words have to do
        return ""


def _returned(value: object) -> Result:
    if value is None:
        return _COMPLETED
    try:
        return Result("completed", value=kept(value))
    except ValueMisfitError as error:
        return Result("failed", f"its result {error}", final=True)


def storable(text: str) -> str:
    """Return text that PostgreSQL can hold: no NUL, no lone surrogate, not too long."""
    return mended(text[:_LONGEST])
