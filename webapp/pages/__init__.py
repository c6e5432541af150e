"""Pages: the face for people, made on the server; they work without a script as well.

A page that is kept fresh is polled by `static/ronin.js` with the ETag of what it shows. That tag
is made from the data and not from the clock, so every process gives the same, and a poll costs
next to nothing while nothing happens; what only the time moves, the script moves by itself.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import falcon
import jinja2
import orjson

from cluster.store import glance
from webapp.pages import marks

STATIC = Path(__file__).parent.parent / "static"
"""The folder of what the pages load: one style, one small script."""
_TEMPLATES = Path(__file__).parent.parent / "templates"

_HEADERS = {
    # Everything comes from here, and nothing that stands in a page is a script.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_DIGEST_BYTES = 6
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_TENTHS_BELOW = 10


@dataclass(frozen=True, slots=True)
class Freshness:
    """What the script has to know of a page in order to keep it fresh.

    Attributes:
        path: what it polls; empty for the page itself.
        etag: of the data shown.
        now: the database's clock, in milliseconds since 1970.
    """

    path: str
    etag: str
    now: int


def show(response: falcon.Response, template: str, **values: Any) -> None:
    """Answer with a page.

    Args:
        response: of the request.
        template: its file's name.
        **values: what it shows; all text is escaped.
    """
    response.content_type = falcon.MEDIA_HTML
    response.set_headers(_HEADERS)
    response.text = render(template, **values)


def show_live(
    request: falcon.Request,
    response: falcon.Response,
    template: str,
    data: object,
    *,
    now: datetime,
    **values: Any,
) -> None:
    """Answer with a page that the script polls, or with 304 if it has this already.

    The page replaces what differs, and keeps focus, selection, open `<details>` and scrolling;
    elements with an id, or `data-key`, are recognised wherever they have moved.

    Args:
        request: its `If-None-Match` says what the browser has.
        response: of the request.
        template: its file's name; it gets `now` as well.
        data: all that the page shows which can change, without the clock: what orjson can write.
        now: the database's clock.
        **values: what it shows; all text is escaped.
    """
    etag = f"{BUILD}.{digest(data)}"
    keep_fresh(response, etag, now)
    if has(request, etag):
        response.status = falcon.HTTP_304
        return
    fresh = Freshness("", etag, milliseconds(now))
    show(response, template, live=fresh, now=now, **values)
    response.set_header("Cache-Control", "no-store")  # a reload shows the time as it is


def keep_fresh(response: falcon.Response, etag: str, now: datetime) -> None:
    """Say which state of the data this is, and what time it is."""
    response.etag = etag
    response.set_header("Ronin-Now", str(milliseconds(now)))
    response.set_header("Cache-Control", "no-store")


def has(request: falcon.Request, etag: str) -> bool:
    """Whether the browser says that it has this state already."""
    return any(each == etag for each in request.if_none_match or ())


def render(template: str, **values: Any) -> str:
    """Return a page, or a part of one, as text."""
    return _templates.get_template(template).render(values)


def digest(data: object) -> str:
    """Return a short name for a state of the data, the same in every process."""
    text = orjson.dumps(data, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()


def milliseconds(at: datetime) -> int:
    """Return a moment as the script counts it."""
    return int(at.timestamp() * 1000)


def duration(span: timedelta | float | None) -> str:
    """Return how long, in the two largest units: `0.4 s`, `3 min 12 s`, `2 h`; the script agrees.

    Args:
        span: seconds where it is a number; below zero counts as zero.
    """
    if span is None:
        return "–"
    seconds = max(span.total_seconds() if isinstance(span, timedelta) else float(span), 0.0)
    if seconds < _TENTHS_BELOW:
        return f"{int(seconds * 10) / 10:g} s"
    left = int(seconds)
    for place, (unit, size) in enumerate(_UNITS):
        if left >= size:
            rest, (smaller, part) = left % size, _UNITS[min(place + 1, len(_UNITS) - 1)]
            more = f" {rest // part} {smaller}" if rest // part else ""
            return f"{left // size} {unit}{more}"
    return "0 s"


def _build() -> str:
    """Return a name for what the pages are made of: after a deploy, browsers load it anew."""
    files = sorted([*_TEMPLATES.iterdir(), *STATIC.iterdir()])
    return digest([(each.name, each.read_text()) for each in files])


BUILD = _build()
"""Names the templates, style and script that this process has."""

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["build"] = BUILD
_templates.globals["outcomes"] = glance.OUTCOMES
_templates.filters["when"] = lambda at: at.strftime("%Y-%m-%d %H:%M:%S UTC") if at else "–"
_templates.filters["iso"] = lambda at: at.isoformat(timespec="milliseconds")
_templates.filters["duration"] = duration
_templates.filters["counted"] = lambda n: f"{n:,}" if n < glance.COUNTED else f"{n:,}+"
_templates.filters["mark_paths"] = marks.mark_paths
_templates.filters["tally"] = marks.tally
_templates.filters["words"] = marks.words
