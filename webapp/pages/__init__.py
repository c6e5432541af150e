"""Pages: the face for people, made on the server; they work without a script as well."""

from pathlib import Path
from typing import Any

import falcon
import jinja2

STATIC = Path(__file__).parent.parent / "static"
"""The folder of what the pages load: one style, one small script."""

_HEADERS = {
    # Everything comes from here, and nothing that stands in a page is a script.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["when"] = lambda at: at.strftime("%Y-%m-%d %H:%M:%S UTC") if at else "–"


def show(response: falcon.Response, template: str, **values: Any) -> None:
    """Answer with a page.

    Args:
        response: of the request.
        template: its file's name.
        **values: what it shows; all text is escaped.
    """
    response.content_type = falcon.MEDIA_HTML
    response.set_headers(_HEADERS)
    response.text = _templates.get_template(template).render(values)
