"""Forms, as a browser sends them that has been to one of our pages before."""

from collections.abc import Mapping
from urllib.parse import urlencode

KEY = "A" * 22
COOKIE = f"ronin_form={KEY}"
MEDIA = {"Content-Type": "application/x-www-form-urlencoded"}
FORM = {**MEDIA, "Sec-Fetch-Site": "same-origin", "Cookie": COOKIE}
"""The headers."""


def filled(fields: Mapping[str, str] = {}) -> str:
    """Return the body."""
    return urlencode({**fields, "form_key": KEY})


def within(session: str) -> dict[str, str]:
    """Return the header with the cookie of a session beside that of the forms."""
    return {"Cookie": f"{session}; {COOKIE}"}
