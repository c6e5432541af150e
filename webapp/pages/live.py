"""The live page: what the cluster does, at a glance; and its parts, for who looks again."""

import random
import time
from datetime import datetime

import falcon

from cluster import schedule as schedules
from cluster.database import Pool
from cluster.reason import Reason
from cluster.store import glance, pulse
from cluster.store.views import Row
from webapp import pages, waiting
from webapp.pages import clock, snapshot
from webapp.pages.charts import charts
from webapp.pages.evenness import evenness
from webapp.pages.lanes import lanes
from webapp.pages.snapshot import Snapshot, Snapshots

_ASKED = 50
"""Jobs whose reason is looked for at most."""
_ENOUGH = 6
"""Polls a second that a process answers without asking its viewers to come less often. From then
on their pause grows with the polls that still come, so with the root of their number: 30 viewers of
five processes come every second, 200 every 2.6 s (benchmarks/viewers.py)."""
_LEAST = 0.6
"""Seconds between two polls of a script; it takes few of them to meet the new snapshots."""
_JITTER = 0.1
"""Seconds; so that not all come in the moment in which a new snapshot is taken."""


class Live:
    """`GET /`: the page. `GET /live`: the parts of it that have changed, for the script."""

    def __init__(self, pool: Pool) -> None:
        self._snapshots = Snapshots(lambda: _read(pool))
        self._body = ("", "")
        self._parts: dict[str, bytes] = {}
        self._pace = Pace()

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the page, with the time as it was when the snapshot was taken."""
        seen = self._snapshots.get()
        key = f"{seen.etag}@{seen.now}"
        kept, body = self._body
        if kept != key:
            body = pages.render("live_body.html", now=seen.now, **seen.parts)
            self._body = key, body
        fresh = pages.Freshness("/live", seen.etag, clock.milliseconds(seen.clock))
        pages.show(response, "live.html", live=fresh, body=body)
        pages.keep_fresh(response, seen.etag, seen.clock)

    def on_get_parts(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with what differs from what the script has by its `If-None-Match`, or 304."""
        seen = self._snapshots.get()
        has = request.get_header("If-None-Match", default="").removeprefix("W/").strip('"')
        changed = seen.changed(has)
        response.set_header(
            "Ronin-Poll-Milliseconds", str(self._pace.next(seen.serves - seen.age, seen.serves))
        )
        if changed:
            pages.as_page(response)
            response.data = b"".join(self._part(seen, name) for name in changed)
        else:
            response.status = falcon.HTTP_304
        pages.keep_fresh(response, seen.etag, seen.clock)

    def _part(self, seen: Snapshot, name: str) -> bytes:
        """Return a part as it was first shown in this state; the script moves its times."""
        tag = seen.tags[list(seen.parts).index(name)]
        key = f"{name}.{tag}"
        if key not in self._parts:
            shown = pages.render("part.html", part=name, data=seen.parts[name], now=seen.now)
            others = {k: v for k, v in self._parts.items() if not k.startswith(f"{name}.")}
            self._parts = {**others, key: shown.encode()}
        return self._parts[key]


class Pace:
    """How soon the script shall come again: at the next snapshot, or later if too many come."""

    def __init__(self) -> None:
        self._second = 0
        self._count = 0
        self._before = 0

    def next(self, left: float, serves: float) -> int:
        """Count a poll; return the milliseconds until the next.

        Counts without a lock: one that is lost does not matter.

        Args:
            left: seconds until the snapshot that it gets may be renewed; none if it is just being.
            serves: seconds that one serves.
        """
        second = int(time.monotonic())
        if second != self._second:
            self._before = self._count if second == self._second + 1 else 0
            self._second, self._count = second, 0
        self._count += 1
        crowd = max(self._before, self._count, _ENOUGH) / _ENOUGH
        # Who came while a new one was being taken comes for the one after that.
        wait = max(left if left > 0 else serves, _LEAST) + random.uniform(0, _JITTER)  # noqa: S311 - no secret
        return int(wait * crowd * 1000)


def _read(pool: Pool) -> tuple[datetime, snapshot.Parts]:
    """Return the database's clock, and what each part of the page shows."""
    seen = glance.glance(pool)
    minutes = pulse.minutes(pool)
    # Who waits for its next firing needs no reason: that stands in a column of its own.
    due = [job for job in seen.jobs if job["waiting_for"] not in (None, "schedule")]
    reasons = waiting.of_jobs(pool, due[:_ASKED])
    for job in seen.jobs:
        job["next_at"] = _next(job, seen)
        job["why"] = _why(job, reasons.get(job["run_id"]))
    late = sum(job["waiting_for"] in ("free_worker", "no_worker") for job in seen.jobs)
    spread = evenness(seen.workers)
    return seen.now, {
        "head": {
            "workers": len(seen.workers),
            "running": len(seen.running),
            "due": late + sum(kind["due"] for kind in seen.kinds),
            "spread": spread.now,
            "ended": sum(minute["ended"] for minute in minutes),
            "failed": sum(minute["failed"] for minute in minutes),
        },
        "lanes": lanes(seen),
        "jobs": seen.jobs,
        "charts": charts(minutes),
        "kinds": seen.kinds,
        "workers": spread,
    }


def _why(job: Row, reason: Reason | None) -> str:
    """Return why a job waits; the state says already that it is paused."""
    if reason is None:
        return ""
    return reason.gist.removeprefix("paused").strip() if job["state"] == "paused" else reason.gist


def _next(job: Row, seen: glance.Glance) -> object:
    if job["state"] != "running":
        return job["not_before"]
    return schedules.parse(job["schedule"], job["timezone"]).after(seen.now)
