"""The page of actions: who has changed what, and when."""

import falcon

from cluster.database import Pool
from cluster.store import actions
from cluster.store.views import Row
from webapp import pages, parameters
from webapp.pages import paging

_SHOWN = 10
"""Actions on the page of what they were done to."""


class ActionsPage:
    """`GET /ui/actions?target=`, paged by `before` and `after`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page, newest first.

        Raises:
            Problem: 400 no such target or page.
        """
        target = parameters.target(request)
        page = paging.read(
            request,
            parameters.uuid,
            lambda limit, key, newer: actions.page(self._pool, limit, key, target, newer=newer),
            lambda row: str(row["id"]),
            {"target": target},
        )
        pages.show(response, "actions.html", page=page, target=target)


def recorded(pool: Pool, target: str) -> list[Row]:
    """Return the newest actions on something, for its page."""
    return actions.page(pool, _SHOWN, None, target)
