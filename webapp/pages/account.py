"""The page of an account: its balance, and every change of it."""

from typing import LiteralString

import falcon
from psycopg.rows import dict_row

from cluster.database import Pool
from cluster.store.views import Row
from webapp import pages
from webapp.pages import paging, picture
from webapp.problems import Problem

_POINTS = 200
"""Postings in the picture."""
_LARGEST = 2**63 - 1


class AccountPage:
    """`GET /ui/users/{id}`, its postings paged by `before` and `after`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def on_get(self, request: falcon.Request, response: falcon.Response, user: int) -> None:
        """Answer with the page.

        Raises:
            Problem: 400 no such page, 404 unknown user.
        """
        found = _rows(self._pool, _USER, {"user": user})
        if not found:
            raise Problem(404, "unknown-user", f"There is no user {user}.")
        page = paging.read(
            request,
            _posting,
            lambda limit, key, newer: _postings(self._pool, user, limit, key, newer=newer),
            lambda row: str(row["id"]),
            {},
        )
        newest = _postings(self._pool, user, _POINTS, None)[::-1]
        pages.show_live(
            request,
            response,
            "account.html",
            [found[0]["balance"], page.rows],
            now=found[0]["now"],
            user=user,
            balance=found[0]["balance"],
            page=page,
            line=picture.steps([row["balance"] for row in newest]),
            low=min((row["balance"] for row in newest), default=0),
            high=max((row["balance"] for row in newest), default=0),
            points=len(newest),
        )


_USER: LiteralString = "SELECT balance, now() AS now FROM users WHERE id = %(user)s"
_OLDER: LiteralString = """
    SELECT id, amount, balance, posted_at FROM ledger WHERE user_id = %(user)s AND id < %(key)s
    ORDER BY user_id DESC, id DESC LIMIT %(limit)s
    """
_NEWER: LiteralString = """
    SELECT id, amount, balance, posted_at FROM ledger WHERE user_id = %(user)s AND id > %(key)s
    ORDER BY user_id, id LIMIT %(limit)s
    """


def _postings(
    pool: Pool, user: int, limit: int, beyond: int | None, *, newer: bool = False
) -> list[Row]:
    """Return postings of a user, newest first; their numbers grow with time."""
    key = _LARGEST if beyond is None else beyond
    parameters = {"user": user, "limit": limit, "key": key}
    rows = _rows(pool, _NEWER if newer else _OLDER, parameters)
    return rows[::-1] if newer else rows


def _rows(pool: Pool, query: LiteralString, parameters: Row) -> list[Row]:
    with pool.connection() as connection:
        return connection.cursor(row_factory=dict_row).execute(query, parameters).fetchall()


def _posting(text: str) -> int | None:
    digits = text.isascii() and text.isdigit() and len(text) < len(str(_LARGEST))
    return int(text) if digits else None
