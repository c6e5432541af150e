"""The live page: what the cluster does, at a glance."""

from typing import Any

import falcon

from cluster import schedule as schedules
from cluster.database import Pool
from cluster.store import glance
from webapp import pages

WORDS = {
    "schedule": "for its next firing",
    "retry": "to be tried again",
    "free_worker": "for a free worker",
    "no_worker": "no worker knows it",
    "paused": "paused",
}
"""Why a job waits, in words."""


class Live:
    """`GET /`: the jobs, and who runs them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the page."""
        seen = glance.glance(self._pool)
        for job in seen.jobs:
            job["next_at"] = _next(job, seen)
            job["why"] = WORDS.get(job["waiting_for"], "")
        data = [seen.workers, seen.jobs, seen.kinds]
        pages.show_live(request, response, "live.html", data, now=seen.now, glance=seen)


def _next(job: dict[str, Any], seen: glance.Glance) -> object:
    if job["state"] != "running":
        return job["not_before"]
    return schedules.parse(job["schedule"], job["timezone"]).after(seen.now)
