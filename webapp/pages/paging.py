"""Paging: a page of a list, and the links to what is newer and older, by cursor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

import falcon

from cluster.store.views import Row
from webapp import parameters
from webapp.problems import Problem

SIZE = 50
"""Rows of a page."""

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, newest first, and where the neighbours are; None where there is none."""

    rows: Sequence[Row]
    newest: str | None
    newer: str | None
    older: str | None


def read(
    request: falcon.Request,
    parse: Callable[[str], Key | None],
    fetch: Callable[[int, Key | None, bool], Sequence[Row]],
    write: Callable[[Row], str],
    filters: Mapping[str, str | None],
) -> Page:
    """Return the page that a request asks for by `before` or `after`, else the newest one.

    A cursor is the key of a row, which never changes, so that nothing that happens between two
    pages makes a row come twice or not at all.

    Args:
        request: it may have one of the two.
        parse: reads a cursor; None if it is none.
        fetch: returns that many rows beyond a key, newest first; the newer ones if told so.
        write: a row's cursor.
        filters: further parameters of the links.

    Raises:
        Problem: 400 no such cursor, or both.
    """
    before, after = parameters.one(request, "before"), parameters.one(request, "after")
    if before is not None and after is not None:
        raise Problem(400, "invalid-parameter", "before and after: one of them.")
    text = after if before is None else before
    key = None if text is None else parse(text)
    if text is not None and key is None:
        raise Problem(400, "invalid-parameter", "That is no page: follow the links of a list.")
    newer = after is not None
    rows = fetch(SIZE + 1, key, newer)
    more = len(rows) > SIZE
    rows = (rows[-SIZE:] if newer else rows[:SIZE]) if more else rows
    kept = {name: value for name, value in filters.items() if value is not None}

    def link(**cursor: str) -> str:
        return f"{request.path}?{urlencode({**kept, **cursor})}"

    # The page that we came from is there for certain; whether there is a further one we have seen.
    has_newer, has_older = (more, True) if newer else (before is not None, more)
    return Page(
        rows,
        link() if before is not None or after is not None else None,
        link(after=write(rows[0])) if rows and has_newer else None,
        link(before=write(rows[-1])) if rows and has_older else None,
    )
