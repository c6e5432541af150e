"""Login and logout: a token typed once, and a cookie in its place."""

import falcon

from cluster import log
from webapp import access, bodies, pages, visits
from webapp.sessions import LASTS, Sessions

_log = log.get("http")


class Login:
    """`/login`: who has a token shows it once."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the form; without tokens there is nothing to log in to."""
        following = visits.own_path(request.get_param("next") or "") or "/"
        if not self._sessions.needed:
            _see(response, following)
            return
        pages.show(response, "login.html", following=following, wrong=False)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Begin a session, and go where the person wanted to; or show the form again."""
        fields = bodies.form(request)
        following = visits.own_path(fields.get("next", "")) or "/"
        token = self._sessions.holder(fields.get("token", "").strip())
        if token:
            response.set_cookie(
                access.COOKIE,
                self._sessions.cookie(token),
                max_age=int(LASTS.total_seconds()),
                path="/",
                secure=visits.by_https(request),
                http_only=True,
                same_site="Strict",
            )
            _see(response, following)
        elif not self._sessions.needed:
            _see(response, following)
        else:
            _log.warning("login refused", client=request.remote_addr)
            response.status = falcon.HTTP_401
            response.set_header("WWW-Authenticate", 'Bearer realm="ronin"')
            pages.show(response, "login.html", following=following, wrong=True)


class Logout:
    """`POST /logout`: forget who it was."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Take the cookie back, and go to the login."""
        bodies.form(request)
        response.unset_cookie(access.COOKIE, path="/", same_site="Strict")
        _see(response, "/login")


def _see(response: falcon.Response, path: str) -> None:
    response.status = falcon.HTTP_303
    response.location = path
