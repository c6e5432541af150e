"""What the forms of the pages do: as the routes of JSON do it, and then back to the page."""

import threading
from urllib.parse import quote
from uuid import UUID

import falcon

from cluster.database import Pool
from cluster.job import Catalogue
from webapp import bodies, jobs, kinds, logs, runs, task_form, tasks, visits
from webapp.access import actor
from webapp.pages.kinds import KindPage
from webapp.problems import Problem
from webapp.quota import Quota


class JobForms:
    """`POST /ui/jobs/{name}/…`: what an operator does to a job."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_post_run(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Run it now."""
        bodies.form(request)
        jobs.run_now(self._pool, name, actor(request))
        _see(response, "jobs", name)

    def on_post_pause(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Start it no more until it is resumed."""
        bodies.form(request)
        self._change(request, response, name, jobs.JobChange(paused=True))

    def on_post_resume(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Let it start again."""
        bodies.form(request)
        self._change(request, response, name, jobs.JobChange(paused=False))

    def on_post_schedule(
        self, request: falcon.Request, response: falcon.Response, name: str
    ) -> None:
        """Give it another schedule."""
        text = bodies.form(request).get("schedule", "").strip()
        self._change(request, response, name, jobs.JobChange.model_construct(schedule=text))

    def on_post_reset(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Give it back the schedule of the code."""
        bodies.form(request)
        self._change(request, response, name, jobs.JobChange(schedule=None))

    def _change(
        self,
        request: falcon.Request,
        response: falcon.Response,
        name: str,
        wanted: jobs.JobChange,
    ) -> None:
        jobs.change(self._pool, name, wanted, actor(request))
        _see(response, "jobs", name)


class RunForms:
    """`POST /ui/runs/{id}/cancel`, `…/stack`, and `POST /ui/tasks/{id}/retry`."""

    def __init__(self, pool: Pool, posted: threading.Condition) -> None:
        self._pool = pool
        self._posted = posted

    def on_post_cancel(self, request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Stop it wherever it is."""
        bodies.form(request)
        runs.cancel(self._pool, run, actor(request))
        _see(response, "runs", run)

    def on_post_stack(self, request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Ask where it is now; the page shows the answer when it is there."""
        bodies.form(request)
        logs.ask(self._pool, run)
        _see(response, "runs", run)

    def on_post_retry(self, request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Try an ERROR again."""
        bodies.form(request)
        tasks.retry(self._pool, run, self._posted, actor(request))
        _see(response, "runs", run)


class KindForms:
    """`POST /ui/kinds/{name}/…`: what an operator does to a kind of tasks."""

    def __init__(
        self, pool: Pool, catalogue: Catalogue, posted: threading.Condition, quota: Quota
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._posted = posted
        self._quota = quota
        self._page = KindPage(pool, catalogue)

    def on_post_pause(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Start none of its tasks until it is resumed."""
        bodies.form(request)
        kinds.pause(self._pool, name, paused=True, by=actor(request))
        _see(response, "kinds", name)

    def on_post_resume(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Let them start again."""
        bodies.form(request)
        kinds.pause(self._pool, name, paused=False, by=actor(request))
        _see(response, "kinds", name)

    def on_post_retry(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Try all again that have ended in an error."""
        bodies.form(request)
        kinds.retry_all(self._pool, name, self._posted, actor(request))
        _see(response, "kinds", name)

    def on_post_tasks(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Ask for a task, and show it; or the form again, with what is wrong."""
        fields = bodies.form(request)
        kinds.find(self._pool, name)
        try:
            asked = task_form.read(self._catalogue, name, fields)
        except Problem as problem:
            wrong = task_form.by_field(self._catalogue, name, problem)
            if not wrong or not visits.wants_page(request):
                raise
            response.status = falcon.HTTP_422
            self._page.show(response, name, fields, wrong)
            return
        self._quota.take(request, 1)
        (made,) = tasks.enqueue(self._pool, [asked], self._posted, actor(request))
        _see(response, "runs", made.id)


def _see(response: falcon.Response, *path: object) -> None:
    """Send the browser to a page, which it asks for with a GET: reloading it does nothing twice."""
    response.status = falcon.HTTP_303
    response.location = "/ui/" + "/".join(quote(str(part), safe="") for part in path)
