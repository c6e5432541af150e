"""The page of a job: what it does now, what it has done, when it starts next, and its settings."""

from collections import Counter
from statistics import median
from typing import Any
from urllib.parse import quote

import falcon

from cluster import schedule as schedules
from cluster.database import Pool
from cluster.store import details, views, waits
from webapp import pages, parameters, waiting
from webapp.pages import actions_log, firings, paging, picture, words
from webapp.problems import Problem

_PLACES = 100
"""Attempts in the picture."""
_FIRINGS = 10


class JobPage:
    """`GET /ui/jobs/{name}`; with `schedule`, what that one would mean, before it is saved."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Answer with the page.

        Raises:
            Problem: 400 no such page of the history, 404 unknown job.
        """
        found = [] if "\x00" in name else views.jobs(self._pool, name)
        if not found:
            raise Problem(404, "unknown-job", f"There is no job called {name!r}.")
        job = found[0]
        asked = parameters.one(request, "schedule")
        page = paging.read(
            request,
            parameters.moment_and_run,
            lambda limit, key, newer: views.history(self._pool, name, limit, key, newer=newer),
            lambda row: f"{row['finished_at'].isoformat()}_{row['run_id']}",
            {},
        )
        recent = details.recent(self._pool, name, _PLACES)
        preview = _preview(job, asked)
        first = [firing.at for firing in preview["firings"][:1]]
        behind = waits.behind(job)
        reason = behind.gist if behind else waiting.gist(self._pool, job)
        done = actions_log.recorded(self._pool, f"job:{name}")
        pages.show_live(
            request,
            response,
            "job.html",
            [job | {"now": None, "elapsed_seconds": None}, reason, first, page.rows, recent, done],
            now=job["now"],
            job=job,
            base=f"/ui/jobs/{quote(name, safe='')}",
            reason=reason,
            actions=done,
            changed=job["schedule"] != job["declared_schedule"],
            settings=words.settings(job),
            page=page,
            **preview,
            **_picture(recent),
        )


def _preview(job: views.Row, asked: str | None) -> dict[str, Any]:
    """Return the next firings by the job's schedule, or by the one that is asked about."""
    told: dict[str, Any] = {"asked": asked, "mistake": None, "firings": [], "marked": False}
    text = job["schedule"] if asked is None else asked
    try:
        told["firings"] = firings.upcoming(text, job["timezone"], job["now"], _FIRINGS)
        told["marked"] = any(firing.marks for firing in told["firings"])
    except schedules.ScheduleError as error:
        told["mistake"] = f"{error}."
    return told


def _picture(recent: list[views.Row]) -> dict[str, Any]:
    took = [row["duration_seconds"] for row in recent]
    return {
        "bars": picture.columns(recent, _PLACES),
        "longest": max(took, default=None),
        "median": median(took) if took else None,
        "tally": Counter(row["outcome"] for row in recent).most_common(),
    }
