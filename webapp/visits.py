"""Visits: whether it is a person who asks, where from, and where to send them."""

import re
from urllib.parse import urlsplit

import falcon

_SINGLE = ("/", "/docs", "/ui", "/login", "/logout")


def wants_page(request: falcon.Request) -> bool:
    """Whether a person asks for a page; scripts get problems and nothing to look at."""
    return leads_to_page(request.path) and "text/html" in request.accept


def leads_to_page(path: str) -> bool:
    """Whether people go there; programs go everywhere else."""
    return path in _SINGLE or path.startswith("/ui/")


def by_https(request: falcon.Request) -> bool:
    """Whether the browser has come by https, perhaps to a proxy that says so."""
    return request.forwarded_scheme == "https"


def own_path(text: str) -> str | None:
    """Return a path of ours with its query, or None if it leads anywhere else.

    Browsers read two slashes as another host, a backslash as a slash, and no tabs and newlines.
    """
    return text if re.fullmatch(r"/(?!/)[!-\[\]-~]*", text) else None


def back(request: falcon.Request) -> str:
    """Return the page of ours that a person came from, or the first one."""
    try:
        came = urlsplit(request.referer or "")
    except ValueError:
        return "/"
    path = f"{came.path}?{came.query}" if came.query else came.path
    ours = came.netloc == request.netloc and path != request.relative_uri
    return (own_path(path) if ours else None) or "/"
