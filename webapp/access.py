"""Access: who asks, what that one may do, and whether a page of ours made them ask."""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

import falcon

from webapp import visits
from webapp.problems import Problem
from webapp.sessions import Sessions

COOKIE = "ronin_session"

_READING = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/health", "/health/ready", "/login", "/logout")
_STATIC = "/static/"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks.

    Attributes:
        name: as actions are recorded.
        may_operate: whether this one may change anything.
        session: whether a login has told who it is, so that there is something to log out of.
    """

    name: str
    may_operate: bool
    session: bool = False


LOCAL = Actor("local", may_operate=True)
"""Whoever can reach a service that has no tokens: a developer at this machine."""


def actor(request: falcon.Request) -> str:
    """Return the name under which what this request changes is recorded."""
    asking: Actor = request.context.actor
    return asking.name


class Access:
    """Middleware: lets a request through, and notes who it is for the resources and the pages.

    It decides before there is a route, so that no route can be forgotten.

    Args:
        sessions: with the tokens of the service, if there are any.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Look at the headers.

        Raises:
            Problem: 400 without the header Host, 401 without a token, 403 it may only read, or
                another site's page sent it, 421 under a name that is not ours.
            falcon.HTTPSeeOther: a person is to log in.
        """
        if request.get_header("Host") is None and request.env["SERVER_PROTOCOL"] == "HTTP/1.1":
            raise Problem(400, "bad-request", "HTTP/1.1 wants a header Host (RFC 9112, 3.2).")
        changing = request.method not in _READING
        if changing and _from_elsewhere(request):
            detail = "A page of another site sent this, or nobody can tell that it was ours."
            raise Problem(403, "cross-site", detail)
        if request.path in _OPEN or request.path.startswith(_STATIC):
            return
        asking = self._who(request)
        request.context.actor = response.context.actor = asking
        if asking is None:
            raise _who_are_you(request)
        if changing and not asking.may_operate:
            raise Problem(403, "read-only", f"{asking.name} may read, and change nothing.")

    def _who(self, request: falcon.Request) -> Actor | None:
        if not self._sessions.needed:
            if not _plain_name(_asked_as(request)):
                detail = "Without tokens the service answers to localhost and to addresses only."
                raise Problem(421, "misdirected-request", detail)
            return LOCAL
        scheme, _, secret = (request.get_header("Authorization") or "").partition(" ")
        if scheme.lower() == "bearer":
            token = self._sessions.holder(secret.strip())
            return Actor(token.name, token.role == "operate") if token else None
        for cookie in request.get_cookie_values(COOKIE) or ():
            if token := self._sessions.of(cookie):
                return Actor(token.name, token.role == "operate", session=True)
        return None


def _who_are_you(request: falcon.Request) -> Exception:
    if visits.wants_page(request):
        again = request.relative_uri if request.method == "GET" else visits.back(request)
        return falcon.HTTPSeeOther(f"/login?next={quote(again, safe='/')}")
    problem = Problem(401, "unauthorized", "Send a token: Authorization: Bearer …")
    problem.headers = {"WWW-Authenticate": 'Bearer realm="ronin"'}
    return problem


def _asked_as(request: falcon.Request) -> str:
    """Return the name under which we were asked; an absolute target goes before the header."""
    target = request.env.get("RAW_URI", "/")
    absolute = "" if target.startswith("/") else urlsplit(target).netloc
    return absolute or request.get_header("Host") or ""


@lru_cache(maxsize=100)
def _plain_name(host: str) -> bool:
    """Whether nobody can have made a name of theirs lead here, in order to read what we answer.

    A page of `evil.example` may ask `evil.example` what it likes, and its owner may let that
    name lead to 127.0.0.1 (DNS rebinding). An address leads where it says, `localhost` to this
    machine; and a browser always sends the header.
    """
    try:
        name = urlsplit(f"//{host}").hostname or "localhost"
        return name.split(".")[-1] == "localhost" or bool(ip_address(name))
    except ValueError:
        return False


def _from_elsewhere(request: falcon.Request) -> bool:
    """Whether a browser may have sent this for a page that is not ours.

    Browsers say so in Sec-Fetch-Site, over https and to this machine; else in Origin. What asks
    for what a form does, or in a session, is a browser, so one of these has to be there.
    """
    site = request.get_header("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.get_header("Origin")
    if origin is not None:
        return origin.partition("://")[2] != request.get_header("Host")
    return visits.leads_to_page(request.path) or bool(request.get_cookie_values(COOKIE))
