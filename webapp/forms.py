"""Forms: each carries a key that is known only to the browser for which its page was made.

A page of another site can make a browser send a form here, with the cookies that belong to us. It
can read neither these nor our pages, so it does not know what to put into the form. Browsers also
say where a form comes from (`webapp.access`); each of the two would do alone.
"""

import hmac
import re
import secrets

import falcon

from webapp import visits
from webapp.problems import Problem

COOKIE = "ronin_form"
FIELD = "form_key"
_BYTES = 16  # of chance; 128 bits can't be guessed
_KEY = re.compile(r"[A-Za-z0-9_-]{22}")  # as `token_urlsafe` writes so many bytes


class Keys:
    """Middleware: who comes to a page gets a key, and keeps it until the browser is closed."""

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Note the key of this browser, for `check` and for the forms of the page."""
        if not visits.leads_to_page(request.path):
            return
        kept = [each for each in request.get_cookie_values(COOKIE) or () if _KEY.fullmatch(each)]
        key = kept[0] if kept else secrets.token_urlsafe(_BYTES)
        if not kept:
            response.set_cookie(
                COOKIE,
                key,
                path="/",
                secure=visits.by_https(request),
                http_only=True,
                same_site="Strict",
            )
        request.context.form_key = response.context.form_key = key


def check(request: falcon.Request, fields: dict[str, str]) -> None:
    """Take the key out of the fields of a form.

    Raises:
        Problem: 403 it is not the one of this browser.
    """
    given, key = fields.pop(FIELD, ""), request.context.form_key
    if not hmac.compare_digest(given.encode(), key.encode()):
        detail = "This form was made for another browser, or long ago. Load its page once more."
        raise Problem(403, "cross-site", detail)
