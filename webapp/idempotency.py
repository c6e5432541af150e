"""Idempotency: the key that makes a retry of a request answer as the first did."""

import re

import falcon

from webapp.problems import Problem

PATTERN = r"^[\x20-\x7e]{1,255}$"
"""Printable ASCII."""


def key(request: falcon.Request) -> str | None:
    """Return the header Idempotency-Key, if there is one.

    Raises:
        Problem: 400 it is empty, too long, or holds what no key holds.
    """
    text = request.get_header("Idempotency-Key")
    if text is not None and not re.fullmatch(PATTERN, text):
        detail = "An Idempotency-Key has 1 to 255 printable ASCII characters."
        raise Problem(400, "invalid-idempotency-key", detail)
    return text
