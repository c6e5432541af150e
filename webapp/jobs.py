"""Jobs over HTTP: who runs what, what waits and why, and what an operator may change."""

from datetime import datetime
from urllib.parse import urlencode
from uuid import UUID

import falcon
from pydantic import BaseModel, ConfigDict, Field, field_validator

from cluster import due, shown
from cluster import schedule as schedules
from cluster.database import Pool
from cluster.nudge import nudge
from cluster.store import jobs, views
from webapp import answers, bodies, examples, openapi, parameters, waiting
from webapp.access import actor
from webapp.openapi import Answer, describes
from webapp.problems import Problem

_PAGE, _LARGEST_PAGE = 100, 1000
LONGEST_SCHEDULE = 100
"""Characters."""

_PREVIEW, _LARGEST_PREVIEW = 10, 100


class JobChange(BaseModel):
    """The body of a change: `paused`, and `schedule` (null goes back to the code's)."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    # Left out is left as it is, so the documentation names no default.
    paused: bool = Field(default=False, json_schema_extra=openapi.no_default)
    """Whether it waits until it is resumed; a run under way goes on."""
    schedule: str | None = Field(
        None, max_length=LONGEST_SCHEDULE, json_schema_extra=openapi.no_default
    )
    """A cron expression, an alias such as `@hourly`, or `@every 90s`; null: the code's."""

    @field_validator("paused", mode="before")
    @classmethod
    def _not_null(cls, value: object) -> object:
        if value is None:
            raise ValueError("true or false")
        return value


class Jobs:
    """`GET /jobs`: every job, those that run with worker and elapsed time, those that wait too."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes("jobs", {200: Answer("All of them, by name.", list[answers.Job], [examples.JOB])})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """List the jobs.

        Those that run with worker and elapsed time, those that wait with the reason.
        """
        rows = views.jobs(self._pool)
        why = waiting.of_jobs(self._pool, rows)
        bodies.answer(response, [shown.job(row, why) for row in rows])


class Job:
    """`/jobs/{name}`: one job with its settings, and what an operator may change of it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "jobs",
        {200: Answer("The job.", answers.JobInFull, examples.JOB_IN_FULL)},
        problems=("unknown-job",),
    )
    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Show a job with its settings.

        Raises:
            Problem: 404 unknown job.
        """
        bodies.answer(response, _detailed(self._pool, _job(self._pool, name)))

    @describes(
        "jobs",
        {200: Answer("The job as it is now.", answers.JobInFull, examples.JOB_IN_FULL)},
        problems=("invalid-json", "unknown-job", "invalid-field"),
        body=JobChange,
        examples={
            "Pause": {"paused": True},
            "Resume": {"paused": False},
            "Another schedule": {"schedule": "@hourly"},
            "Every so often": {"schedule": "@every 90s"},
            "The code's schedule again": {"schedule": None},
        },
    )
    def on_patch(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Pause, resume or reschedule a job.

        What is left out stays as it is.

        Raises:
            Problem: 404 unknown job, 422 no such schedule.
        """
        wanted = bodies.read(request, JobChange)
        change(self._pool, name, wanted, actor(request))
        bodies.answer(response, _detailed(self._pool, _job(self._pool, name)))


class JobRuns:
    """`POST /jobs/{name}/runs`: run now, in place of the next firing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "jobs",
        {202: Answer("The run that is due now.", answers.RunNow, examples.RUN_NOW)},
        problems=("unknown-job", "job-paused", "job-running"),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Run a job now.

        This run takes the place of the next firing.

        Raises:
            Problem: 404 unknown job, 409 it runs or is paused.
        """
        run = run_now(self._pool, name, actor(request))
        bodies.answer(response, {"run_id": run, "job": name}, falcon.HTTP_202)


class JobHistory:
    """`GET /jobs/{name}/history`: finished attempts, newest first, paged by `Link`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "jobs",
        {200: Answer("A page.", list[answers.Firing], [examples.FIRING], headers=("Link",))},
        problems=("invalid-parameter", "unknown-job"),
        parameters=(
            openapi.count("limit", "Rows of a page.", _PAGE, _LARGEST_PAGE),
            openapi.cursor("2027-01-31T12:00:00.024000+00:00_01a1f0ef-5a20-7c11-8a4b-6f5e4d3c2b1a"),
        ),
    )
    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """List what a job has done, newest first.

        Finished attempts and lost firings, a page at a time.

        Raises:
            Problem: 400 no such cursor or limit, 404 unknown job.
        """
        limit = parameters.count(request, "limit", _PAGE, _LARGEST_PAGE)
        cursor = parameters.cursor_of(request, parameters.moment_and_run)
        _job(self._pool, name)
        rows = views.history(self._pool, name, limit, cursor)
        if len(rows) == limit:
            last = rows[-1]
            query = urlencode(
                {"limit": limit, "cursor": f"{last['finished_at'].isoformat()}_{last['run_id']}"}
            )
            response.append_link(f"{request.path}?{query}", "next")
        bodies.answer(response, rows)


class JobPreview:
    """`GET /jobs/{name}/preview?count=10&schedule=`: the next firings, by any schedule."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "jobs",
        {200: Answer("The moments.", list[datetime], ["2027-01-31T12:20:00Z"])},
        problems=("invalid-parameter", "unknown-job", "invalid-field"),
        parameters=(
            openapi.count("count", "How many.", _PREVIEW, _LARGEST_PREVIEW),
            openapi.Parameter(
                "schedule",
                "query",
                "Of this schedule instead, which is not saved; in the job's zone.",
                {"type": "string"},
                "@hourly",
            ),
        ),
    )
    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Tell the next firings of a job.

        Raises:
            Problem: 400 no such count, 404 unknown job, 422 no such schedule.
        """
        count = parameters.count(request, "count", _PREVIEW, _LARGEST_PREVIEW)
        text = parameters.one(request, "schedule")
        row = _job(self._pool, name)
        schedule = parsed(row["schedule"] if text is None else text, row["timezone"])
        bodies.answer(response, schedules.preview(schedule, row["now"], count))


def change(pool: Pool, name: str, wanted: JobChange, by: str) -> None:
    """Pause, resume or reschedule a job, and let it be seen at once.

    Raises:
        Problem: 404 unknown job, 422 no such schedule.
    """
    row = _job(pool, name)
    if wanted.schedule is not None:
        parsed(wanted.schedule, row["timezone"])
    jobs.change(pool, name, wanted.model_dump(exclude_unset=True), by)
    nudge.set()


def run_now(pool: Pool, name: str, by: str) -> UUID:
    """Make a job due, and return its run.

    Raises:
        Problem: 404 unknown job, 409 it runs or is paused.
    """
    try:
        run = due.now(pool, _job(pool, name), by)
    except due.NotNowError as error:
        if error.state == "paused":
            raise Problem(409, "job-paused", f"{error}.") from error
        raise Problem(409, "job-running", f"{error}.") from error
    nudge.set()
    return run


def parsed(text: str, timezone: str) -> schedules.Schedule:
    """Return a schedule that somebody has typed.

    Raises:
        Problem: 422 it is none.
    """
    if len(text) > LONGEST_SCHEDULE:
        raise bodies.invalid([("schedule", f"it has at most {LONGEST_SCHEDULE} characters")])
    try:
        return schedules.parse(text, timezone)
    except schedules.ScheduleError as error:
        raise bodies.invalid([("schedule", str(error))]) from error


def _job(pool: Pool, name: str) -> views.Row:
    rows = [] if "\x00" in name else views.jobs(pool, name)
    if not rows:
        raise Problem(404, "unknown-job", f"There is no job {name!r}.")
    return rows[0]


def _detailed(pool: Pool, row: views.Row) -> views.Row:
    return shown.job_in_full(row, waiting.of_jobs(pool, [row]))
