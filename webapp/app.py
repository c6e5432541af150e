"""The application: the whole route table on one screen."""

import threading
from collections.abc import Sequence

import falcon

from cluster import boot, database, settings, tracing
from cluster.database import Pool
from cluster.job import Catalogue, catalogue
from cluster.settings import Token
from webapp import openapi, pages, problems
from webapp.access import Access
from webapp.actions import Actions
from webapp.balance import Balance, UserId, Users
from webapp.bodies import Guard, Head
from webapp.document import Document
from webapp.forms import Keys
from webapp.health import Health, Ready, Workers
from webapp.jobs import Job, JobHistory, JobPreview, JobRuns, Jobs
from webapp.kinds import Kind, KindRetry
from webapp.login import Login, Logout
from webapp.logs import RunLog, RunStack
from webapp.metrics import Metrics
from webapp.pages.account import AccountPage
from webapp.pages.actions import JobForms, KindForms, RunForms
from webapp.pages.actions_log import ActionsPage
from webapp.pages.docs import Docs
from webapp.pages.job import JobPage
from webapp.pages.kinds import KindPage, KindsPage
from webapp.pages.live import Live
from webapp.pages.run import RunPage
from webapp.pages.tasks import TasksPage
from webapp.parameters import TaskId
from webapp.parking import Resumed
from webapp.quota import Quota
from webapp.remote import TaskClaims, TaskComplete, TaskFail, TaskHeartbeat, TaskRelease
from webapp.runs import Run, RunCancel
from webapp.sessions import Sessions
from webapp.tasks import Kinds, Task, TaskAttempts, TaskBatch, TaskRetry, Tasks
from webapp.tracing import Tracing

_PATIENCE = 6.0
"""Seconds; with those that a request waits for a connection, nobody is kept for ten."""

App = falcon.App[falcon.Request, falcon.Response]


def create() -> App:
    """Return the application of a worker, with its own connections; call it after the fork."""
    loaded = settings.load()
    url = boot.database_url(loaded)
    pool = database.pool(url, "ronin http", size=8, spare=2, brisk=True, patience=_PATIENCE)
    pool.open()
    quota = Quota(pool, loaded.posts_per_minute)
    return routes(pool, catalogue, loaded.lease_seconds, loaded.doors, quota)


def routes(
    pool: Pool,
    catalogue: Catalogue = catalogue,
    lease_seconds: float = 15,
    tokens: Sequence[Token] = (),
    quota: Quota | None = None,
) -> App:
    """Return the application over a pool.

    Args:
        pool: for its statements.
        catalogue: the kinds of tasks that may be asked for.
        lease_seconds: of a remote worker's claim.
        tokens: who may come in; without any, whoever can reach it.
        quota: of what a client may post; without one, anything.
    """
    sessions = Sessions(tokens)
    router = openapi.Router()
    app: App = falcon.App(router=router)
    app.add_middleware([Resumed(), *([Tracing()] if tracing.configured() else ())])
    app.add_middleware([Head(), Keys(), Guard(), Access(sessions)])
    app.req_options.strip_url_path_trailing_slash = True
    problems.install(app)
    app.router_options.converters["user"] = UserId
    app.router_options.converters["task"] = TaskId
    user = "/users/{user:user}"
    app.add_route(user, Users(pool))
    app.add_route(f"{user}/balance", Balance(pool))
    app.add_route("/jobs", Jobs(pool))
    app.add_route("/jobs/{name}", Job(pool))
    app.add_route("/jobs/{name}/runs", JobRuns(pool))
    app.add_route("/jobs/{name}/history", JobHistory(pool))
    app.add_route("/jobs/{name}/preview", JobPreview(pool))
    posted = threading.Condition()
    quota = quota or Quota(pool, 0)
    task = "/tasks/{task:task}"
    app.add_route("/tasks", Tasks(pool, catalogue, posted, quota))
    app.add_route("/tasks/batch", TaskBatch(pool, catalogue, posted, quota))
    app.add_route("/tasks/claim", TaskClaims(pool, catalogue, posted, lease_seconds))
    app.add_route(task, Task(pool))
    app.add_route(f"{task}/attempts", TaskAttempts(pool))
    app.add_route(f"{task}/retry", TaskRetry(pool, posted))
    app.add_route(f"{task}/heartbeat", TaskHeartbeat(pool))
    app.add_route(f"{task}/complete", TaskComplete(pool, catalogue))
    app.add_route(f"{task}/fail", TaskFail(pool, catalogue))
    app.add_route(f"{task}/release", TaskRelease(pool, catalogue))
    _add_runs(app, pool)
    app.add_route("/kinds", Kinds(pool))
    app.add_route("/kinds/{kind}", Kind(pool))
    app.add_route("/kinds/{kind}/retry", KindRetry(pool, posted))
    app.add_route("/actions", Actions(pool))
    app.add_route("/workers", Workers(pool))
    app.add_route("/metrics", Metrics(pool))
    app.add_route("/health", Health())
    app.add_route("/health/ready", Ready(pool))
    _add_documentation(app, router)
    app.add_route("/login", Login(sessions))
    app.add_route("/logout", Logout())
    _add_pages(app, pool, catalogue)
    _add_forms(app, pool, catalogue, posted, quota)
    app.add_static_route("/static", pages.STATIC)
    return app


def _add_runs(app: App, pool: Pool) -> None:
    """Add what runs of any kind can be asked."""
    app.add_route("/runs/{run:task}", Run(pool))
    app.add_route("/runs/{run:task}/cancel", RunCancel(pool))
    app.add_route("/runs/{run:task}/log", RunLog(pool))
    app.add_route("/runs/{run:task}/stack", RunStack(pool))


def _add_pages(app: App, pool: Pool, catalogue: Catalogue) -> None:
    """Add the live page, those of single things, and their lists."""
    live = Live(pool)
    app.add_route("/", live)
    app.add_route("/live", live, suffix="parts")
    app.add_route("/ui/jobs/{name}", JobPage(pool))
    app.add_route("/ui/runs/{run:task}", RunPage(pool))
    app.add_route("/ui/tasks", TasksPage(pool))
    app.add_route("/ui/kinds", KindsPage(pool))
    app.add_route("/ui/kinds/{name}", KindPage(pool, catalogue))
    app.add_route("/ui/users/{user:user}", AccountPage(pool))
    app.add_route("/ui/actions", ActionsPage(pool))


def _add_documentation(app: App, router: openapi.Router) -> None:
    """Add the document of the API, and the page made of it."""
    document = Document(router)
    app.add_route("/openapi.json", document)
    app.add_route("/docs", Docs(document))


def _add_forms(
    app: App, pool: Pool, catalogue: Catalogue, posted: threading.Condition, quota: Quota
) -> None:
    """Add what the forms of the pages ask for."""
    job, run = JobForms(pool), RunForms(pool, posted)
    kind = KindForms(pool, catalogue, posted, quota)
    for verb in ("run", "pause", "resume", "schedule", "reset"):
        app.add_route(f"/ui/jobs/{{name}}/{verb}", job, suffix=verb)
    for verb in ("cancel", "stack"):
        app.add_route(f"/ui/runs/{{run:task}}/{verb}", run, suffix=verb)
    app.add_route("/ui/tasks/{run:task}/retry", run, suffix="retry")
    for verb in ("pause", "resume", "retry", "tasks"):
        app.add_route(f"/ui/kinds/{{name}}/{verb}", kind, suffix=verb)
