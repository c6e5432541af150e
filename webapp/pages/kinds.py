"""The pages of the kinds of tasks: what there is, what has failed, and a form for a new task."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import falcon

from cluster.database import Pool
from cluster.job import Catalogue
from cluster.store import details, search, tasks
from cluster.store.views import Row
from webapp import pages
from webapp.pages import actions_log, words
from webapp.pages.inputs import inputs
from webapp.problems import Problem

_FAILED = 20
"""Failed tasks that are shown; the list of all has the rest."""


class KindsPage:
    """`GET /ui/kinds`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the page."""
        counted = details.COUNTED // 10
        pages.show(response, "kinds.html", kinds=details.kinds(self._pool), counted=counted)


class KindPage:
    """`GET /ui/kinds/{name}`."""

    def __init__(self, pool: Pool, catalogue: Catalogue) -> None:
        self._pool = pool
        self._catalogue = catalogue

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Answer with the page.

        Raises:
            Problem: 404 unknown kind.
        """
        self.show(response, name)

    def show(
        self,
        response: falcon.Response,
        name: str,
        given: Mapping[str, str] = MappingProxyType({}),
        wrong: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Answer with the page, and what stands in its form.

        Args:
            response: of the request.
            name: of the kind.
            given: what somebody has filled in, by field.
            wrong: what is wrong with it, by field.

        Raises:
            Problem: 404 unknown kind.
        """
        found = [] if "\x00" in name else details.kinds(self._pool, name)
        if not found:
            raise Problem(404, "unknown-kind", f"There is no kind of tasks called {name!r}.")
        kind = found[0]
        pages.show(
            response,
            "kind.html",
            kind=kind,
            counted=details.COUNTED,
            settings=words.settings(kind),
            actions=actions_log.recorded(self._pool, f"kind:{name}"),
            inputs=inputs(self._schema(kind)),
            failed=search.page(self._pool, _FAILED, search.Wanted(tasks.ERROR, name)),
            given=given,
            wrong=wrong,
            # The same form sent twice makes one task.
            key=str(uuid4()),
        )
        response.set_header("Cache-Control", "no-store")

    def _schema(self, kind: Row) -> dict[str, Any]:
        """Return what a kind takes, in the order of its function; jsonb has lost it."""
        known = self._catalogue.get(kind["name"])
        return kind["args"] if known is None else known.arguments.schema
