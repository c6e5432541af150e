"""The application: the whole route table on one screen."""

import falcon

from cluster import boot, database, settings
from cluster.database import Pool
from webapp import problems
from webapp.balance import Balance, UserId, Users
from webapp.bodies import Guard, Head
from webapp.health import Health, Ready, Workers
from webapp.jobs import Job, JobHistory, JobPreview, JobRuns, Jobs

App = falcon.App[falcon.Request, falcon.Response]


def create() -> App:
    """Return the application of a worker, with its own connections; call it after the fork."""
    pool = database.pool(boot.database_url(settings.load()), "ronin http", size=8, spare=2)
    pool.open()
    return routes(pool)


def routes(pool: Pool) -> App:
    """Return the application over a pool."""
    app: App = falcon.App()
    app.add_middleware(Head())
    app.add_middleware(Guard())
    app.req_options.strip_url_path_trailing_slash = True
    problems.install(app)
    app.router_options.converters["user"] = UserId
    user = "/users/{user:user}"
    app.add_route(user, Users(pool))
    app.add_route(f"{user}/balance", Balance(pool))
    app.add_route("/jobs", Jobs(pool))
    app.add_route("/jobs/{name}", Job(pool))
    app.add_route("/jobs/{name}/runs", JobRuns(pool))
    app.add_route("/jobs/{name}/history", JobHistory(pool))
    app.add_route("/jobs/{name}/preview", JobPreview(pool))
    app.add_route("/workers", Workers(pool))
    app.add_route("/health", Health())
    app.add_route("/health/ready", Ready(pool))
    return app
