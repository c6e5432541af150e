"""Access: who asks, and whether it was a page of ours that made them ask."""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

import falcon

from webapp import visits
from webapp.problems import Problem

_READING = ("GET", "HEAD", "OPTIONS")


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
    """Middleware: lets a request through, and notes who it is for the resources and the pages."""

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Look at the headers, before there is a route.

        Raises:
            Problem: 403 another site's page sent it, 421 under a name that is not ours.
        """
        if not _plain_name(request.get_header("Host") or ""):
            detail = "Without tokens the service answers to localhost and to addresses only."
            raise Problem(421, "misdirected-request", detail)
        if request.method not in _READING and _from_elsewhere(request):
            detail = "A page of another site sent this, or nobody can tell that it was ours."
            raise Problem(403, "cross-site", detail)
        request.context.actor = response.context.actor = LOCAL


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
    for what a form does is a browser, so one of these has to be there.
    """
    site = request.get_header("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.get_header("Origin")
    if origin is not None:
        return origin.partition("://")[2] != request.get_header("Host")
    return visits.leads_to_page(request.path)
