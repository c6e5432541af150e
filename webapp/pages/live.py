"""The live page: what the cluster does, at a glance."""

import falcon

from cluster.database import Pool
from cluster.store import views
from webapp import pages


class Live:
    """`GET /`: the jobs, and who runs them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the page."""
        jobs, workers = views.jobs(self._pool), views.workers(self._pool)
        pages.show(response, "live.html", jobs=jobs, workers=workers)
