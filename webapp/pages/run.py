"""The page of a run: a task, or what a schedule has made, from its first attempt to its last."""

from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

import falcon

from cluster.database import Pool
from cluster.store import details, questions, voices
from cluster.store.views import Row
from webapp import pages, waiting
from webapp.pages import actions_log, picture
from webapp.problems import Problem

_LOGS = 3
"""Newest attempts whose log is shown; each is 64 KiB at most."""
_LANE = 16
"""Height of an attempt in the picture, in units of its view box."""


class RunPage:
    """`GET /ui/runs/{id}`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, request: falcon.Request, response: falcon.Response, run: UUID) -> None:
        """Answer with the page.

        Raises:
            Problem: 404 unknown run.
        """
        # Attempts first: one that ends between the two is told by the run, at least.
        attempts = details.attempts(self._pool, run)
        row = details.run(self._pool, run)
        if row is None:
            raise Problem(404, "unknown-run", f"There is no run {run}, or no more.")
        reason = waiting.gist(self._pool, row)
        said = _said(voices.log(self._pool, run))
        asked = questions.last(self._pool, run)
        done = actions_log.recorded(self._pool, f"run:{run}")
        pages.show_live(
            request,
            response,
            "run.html",
            [row | {"now": None, "elapsed_seconds": None}, reason, attempts, done, said, asked],
            now=row["now"],
            run=row,
            attempts=attempts,
            said=said,
            asked=asked,
            reason=reason,
            actions=done,
            question=_question(row),
            **_timeline(row, attempts),
        )


def _said(chunks: list[Row]) -> list[tuple[int, str]]:
    """Return what the newest attempts have said, the oldest of them first."""
    texts = {
        attempt: "".join(chunk["text"] for chunk in some)
        for attempt, some in groupby(chunks, key=lambda chunk: chunk["attempt"])
    }
    return list(texts.items())[-_LOGS:]


def _question(row: Row) -> str:
    if row["state"] == "running":
        return "It is told to stop, wherever it is. What it has done so far is not undone."
    if row["name"] is None:
        return "This firing is dropped, and the job waits for the next one."
    return "It is ended without being started again. It can be tried again later."


def _timeline(row: Row, attempts: list[Row]) -> dict[str, Any]:
    """Return the bars of the attempts, with the one under way, and the moments at the edges."""
    bars = [each for each in attempts if each["started_at"]]
    if row["state"] == "running":
        bars.append({**row, "outcome": "running"})
    begun: list[datetime] = [each["started_at"] for each in bars]
    start = min([row["due_at"], *begun])
    ends = [each["finished_at"] for each in bars if each["finished_at"]]
    end = max([*ends, *begun, start]) if row["state"] == "over" else row["now"]
    return {
        "bars": list(picture.lanes(bars, start, end, _LANE)),
        "lane": _LANE,
        "start": start,
        "end": end,
    }
