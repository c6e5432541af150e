"""Pages: the face for people, made on the server; they work without a script as well.

A page that is kept fresh is polled by `static/ronin.js` with the ETag of what it shows. That tag
is made from the data and not from the clock, so every process gives the same, and a poll costs
next to nothing while nothing happens; what only the time moves, the script moves by itself.
"""

import hashlib
import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import falcon
import jinja2
import orjson

from cluster.store import glance
from webapp.pages import clock, lanes, marks

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
_DIGEST_BYTES = 5


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
        **values: what it shows; all text is escaped. Each page gets `actor` as well, None if
            nobody knows who asks, and `form_key`, for its forms.
    """
    as_page(response)
    known = response.context
    response.text = render(
        template, actor=known.get("actor"), form_key=known.get("form_key"), **values
    )


def as_page(response: falcon.Response) -> None:
    """Say that the answer is HTML, of which the browser may load and run nothing but ours."""
    response.content_type = falcon.MEDIA_HTML
    response.set_headers(_HEADERS)


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
    fresh = Freshness("", etag, clock.milliseconds(now))
    show(response, template, live=fresh, now=now, **values)
    response.set_header("Cache-Control", "no-store")  # a reload shows the time as it is


def keep_fresh(response: falcon.Response, etag: str, now: datetime) -> None:
    """Say which state of the data this is, and what time it is."""
    response.etag = etag
    response.set_header("Ronin-Now", str(clock.milliseconds(now)))
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
_templates.filters |= {
    "bar_shape": lanes.sample,
    "bar_title": lanes.title,
    "counted": lambda number: f"{number:,}" + ("+" if number >= glance.COUNTED else ""),
    "duration": clock.duration,
    "iso": clock.iso,
    "mark_paths": marks.mark_paths,
    "quoted": shlex.quote,
    "tally": marks.tally,
    "when": clock.when,
    "whole": clock.whole,
    "words": marks.words,
}
