"""Parameters: what stands in paths and queries, read strictly."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import falcon
import falcon.routing

from webapp.problems import Problem

Key = TypeVar("Key")
TARGET = r"(job|kind|run):[!-~]{1,100}"
"""What an action was done to."""

_DIGITS = 10
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class TaskId(falcon.routing.BaseConverter):
    """A UUID in a path, in its usual form; falcon's own converter also takes braces and more."""

    def convert(self, value: str) -> UUID | None:
        """Return it, or None: then there is no such path."""
        return uuid(value)


def uuid(text: str) -> UUID | None:
    """Return a UUID in its usual form, or None if the text is none."""
    return UUID(text) if _UUID.fullmatch(text) else None


def moment_and_run(text: str) -> tuple[datetime, UUID] | None:
    """Return the cursor of a job's history, or None if the text is none."""
    finished, _, run = text.partition("_")
    found = uuid(run)
    try:
        return (datetime.fromisoformat(finished).astimezone(UTC), found) if found else None
    except (ValueError, OverflowError):
        return None


def one(request: falcon.Request, name: str) -> str | None:
    """Return a parameter of the query that may be there once.

    Raises:
        Problem: 400 it comes twice.
    """
    values = request.get_param_as_list(name) or []
    if len(values) > 1:
        raise Problem(400, "invalid-parameter", f"{name} comes more than once.")
    return values[0] if values else None


def cursor(request: falcon.Request) -> UUID | None:
    """Return the id to go on after, if there is one.

    Raises:
        Problem: 400 it is none.
    """
    return cursor_of(request, uuid)


def cursor_of(request: falcon.Request, parse: Callable[[str], Key | None]) -> Key | None:
    """Return the key to go on after, if there is one.

    Args:
        request: it may have a `cursor`.
        parse: reads it; None if it is none.

    Raises:
        Problem: 400 it is none.
    """
    text = one(request, "cursor")
    found = parse(text) if text is not None else None
    if text is not None and found is None:
        detail = "cursor is what the Link header of the page before gave."
        raise Problem(400, "invalid-parameter", detail)
    return found


def target(request: falcon.Request) -> str | None:
    """Return what the actions asked for were done to; None: whatever it was.

    Raises:
        Problem: 400 no action can have that target.
    """
    text = one(request, "target")
    if text is not None and not re.fullmatch(TARGET, text):
        raise Problem(400, "invalid-parameter", "target is job:NAME, kind:NAME or run:ID.")
    return text


def count(request: falcon.Request, name: str, default: int, largest: int) -> int:
    """Return a number from 1 on.

    Raises:
        Problem: 400 it is none, or larger than the largest.
    """
    text = one(request, name)
    if text is None:
        return default
    digits = text.isascii() and text.isdigit() and len(text) < _DIGITS
    if not (digits and 1 <= int(text) <= largest):
        raise Problem(400, "invalid-parameter", f"{name} is a number from 1 to {largest}.")
    return int(text)
