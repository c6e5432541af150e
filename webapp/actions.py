"""Actions over HTTP: who has changed what, and when."""

from urllib.parse import urlencode

import falcon

from cluster.database import Pool
from cluster.store import actions
from webapp import answers, bodies, examples, openapi, parameters
from webapp.openapi import Answer, describes

_PAGE, _LARGEST_PAGE = 100, 1000


class Actions:
    """`GET /actions`: what people have changed, newest first, paged by `Link`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @describes(
        "service",
        {200: Answer("A page.", list[answers.Action], [examples.ACTION], headers=("Link",))},
        problems=("invalid-parameter",),
        parameters=(
            openapi.count("limit", "Actions of a page.", _PAGE, _LARGEST_PAGE),
            openapi.cursor(examples.ACTION_ID),
            openapi.Parameter(
                "target",
                "query",
                "Only what was done to this: `job:NAME`, `kind:NAME` or `run:ID`.",
                {"type": "string", "pattern": f"^{parameters.TARGET}$"},
                "job:wait",
            ),
        ),
    )
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """List what people have changed, newest first.

        A page at a time. Tasks that programs ask for, and what workers do, are no actions.

        Raises:
            Problem: 400 no such limit, cursor or target.
        """
        limit = parameters.count(request, "limit", _PAGE, _LARGEST_PAGE)
        target = parameters.target(request)
        rows = actions.page(self._pool, limit, parameters.cursor(request), target)
        if len(rows) == limit:
            following = {"limit": limit, "cursor": rows[-1]["id"]}
            if target is not None:
                following["target"] = target
            response.append_link(f"{request.path}?{urlencode(following)}", "next")
        bodies.answer(response, rows)
